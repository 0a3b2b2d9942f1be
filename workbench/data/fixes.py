"""Repairs that are safe to make without reading every row. The original file is never touched."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workbench.data.check import check_file
from workbench.data.formats import Conversation, Mapping, Repairs, as_record
from workbench.data.problems import KINDS
from workbench.data.readers import Row
from workbench.data.report import Report
from workbench.errors import WorkbenchError
from workbench.files import replacing

INVALID = frozenset(
    code for code, kind in KINDS.items() if kind.severity == "error" and kind.fix not in ("", "map")
)
DROPPABLE = frozenset(code for code, kind in KINDS.items() if kind.fix == "drop")


@dataclass(frozen=True)
class Fixes:
    """What to mend.

    Attributes:
        repairs: What to mend in the rows.
        drop: Codes of problems whose rows are left out.
    """

    repairs: Repairs
    drop: frozenset[str]

    @classmethod
    def for_names(cls, names: Collection[str]) -> Fixes:
        """Make it from the names of ``offered_fixes``.

        ``drop-invalid`` leaves out rows that nothing can be learned from, ``deduplicate`` all but the
        first of equal rows, ``drop:CODE`` the rows with that warning; the others are ``Repairs``.
        """
        drop = {name.removeprefix("drop:") for name in names if name.startswith("drop:")}
        if "drop-invalid" in names:
            drop |= INVALID
        if "deduplicate" in names:
            drop.add("duplicate")
        repairs = Repairs(
            convert="convert" in names,
            cut_unanswered="cut-unanswered" in names,
            trim="trim" in names,
        )
        return cls(repairs, frozenset(drop))


def offered_fixes(report: Report) -> dict[str, str]:
    """Return the repairs that would change something: name for ``Fixes.for_names`` and a sentence."""
    offers: dict[str, str] = {}
    counts = {problem.code: problem.count for problem in report.problems}

    def offer(name: str, words: str, *codes: str) -> None:
        count = sum(counts.get(code, 0) for code in codes)
        if count:
            offers[name] = f"{words} ({count:,} {'row' if count == 1 else 'rows'})"

    offer("convert", "Turn numbers and true/false into text", "wrong-type")
    offer("cut-unanswered", "Cut what follows the last answer", "no-final-answer")
    spaces = ("control-character", "broken-character", "outer-space")
    offer("trim", "Remove outer space and characters that are no text", *spaces)
    offer("deduplicate", "Keep only the first of equal rows", "duplicate")
    offer("drop-invalid", "Leave out rows that stop training", *INVALID)
    for code in sorted(DROPPABLE):
        offer(f"drop:{code}", f"Leave out rows {KINDS[code].many.removeprefix('rows ')}", code)
    return offers


def fix_file(
    path: Path, name: str, out_path: Path, fixes: Fixes, mapping: Mapping | None = None
) -> tuple[Report, Report]:
    """Write the repaired rows to a new file: a JSON list, or one object a line for ``.jsonl``.

    Args:
        path: The file.
        name: What the person calls it.
        out_path: The new file; must not exist.
        fixes: What to repair.
        mapping: Which column is what, when the names do not tell.

    Returns:
        The report of the old file and of the new one.

    Raises:
        WorkbenchError: The columns are not known, nothing is left, or the file cannot be written.
    """
    before = check_file(path, name, mapping)
    if before.mapping is None:
        raise WorkbenchError(before.problems[0].message, before.problems[0].first[0].detail)
    try:
        with replacing(out_path, "w", encoding="utf-8", newline="\n") as file:
            writer = _Writer(file, as_lines=out_path.suffix == ".jsonl")
            kept = check_file(
                path, name, mapping, writer.add, repairs=fixes.repairs, drop=fixes.drop
            )
            writer.close()
            if not kept.usable_rows:
                raise WorkbenchError(f"Nothing of {name} would be left.", "Choose fewer repairs.")
    except OSError as error:
        raise WorkbenchError(
            f"Cannot write {out_path}: {error.strerror or error}.", "Choose another place."
        ) from error
    return before, check_file(out_path, out_path.name)


class _Writer:
    """Writes conversations as Alpaca rows, one a line, so that row and line are easy to find."""

    def __init__(self, file: IO[str], *, as_lines: bool) -> None:
        self._file, self._as_lines, self._count = file, as_lines, 0

    def add(self, row: Row, conversation: Conversation) -> None:
        if not self._as_lines:
            self._file.write(",\n" if self._count else "[\n")
        self._file.write(json.dumps(as_record(conversation), ensure_ascii=False))
        if self._as_lines:
            self._file.write("\n")
        self._count += 1

    def close(self) -> None:
        if not self._as_lines:
            self._file.write("\n]\n")
