"""Read a file once, from the first row to the last, and say everything about it.

::

    file → source (kind, encoding) → readers (rows) → detect (fields) → convert → checks → Report
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from workbench.data.detect import Detection, check_mapping, detect, field_names
from workbench.data.formats import NO_REPAIRS, Conversation, Mapping, Repairs, RowProblem, convert
from workbench.data.labels import LABEL_CHARACTERS, MOST_DISTINCT, LabelCounter
from workbench.data.problems import KINDS, text_problems
from workbench.data.readers import Row, Rows, read_rows
from workbench.data.report import Finding, Problem, Report
from workbench.data.source import Source, UnreadableFile, open_source

FIRST_FINDINGS = 5
DETECTION_ROWS = 200
PREVIEW_ROWS = 5
PREVIEW_CHARACTERS = 300
FEW_ROWS = 20

DOMINANT_SHARE = 0.8  # one label in four of five rows: always saying it looks like a good model
RARE_ROWS = 3

Keep = Callable[[Row, Conversation], None]


def check_file(
    path: Path,
    name: str,
    mapping: Mapping | None = None,
    keep: Keep | None = None,
    *,
    repairs: Repairs = NO_REPAIRS,
    drop: frozenset[str] = frozenset(),
) -> Report:
    """Read a file and check every row. Memory does not grow with the length of the rows.

    Args:
        path: The file.
        name: What the person calls it; used in messages only.
        mapping: Which column is what; recognised by name when it is not given.
        keep: Given every usable row, in order.
        repairs: What to mend in the rows.
        drop: Codes of problems whose rows are passed over, as if they were not there.

    Returns:
        The report; also of a file that cannot be read at all.

    Raises:
        WorkbenchError: The mapping names a column that does not exist.
    """
    try:
        with open_source(path, name) as source:
            return _check(source, name, mapping, keep, repairs, drop)
    except UnreadableFile as error:
        return Report(name=name, problems=(_unreadable(error.message, error.hint),))


def _check(
    source: Source,
    name: str,
    mapping: Mapping | None,
    keep: Keep | None,
    repairs: Repairs,
    drop: frozenset[str],
) -> Report:
    rows = read_rows(source, name)
    first = list(islice(rows.rows, DETECTION_ROWS))
    values = [row.value for row in first if not row.broken]
    if mapping:
        check_mapping(mapping, field_names(values))
        found = Detection("mapped", mapping)
    else:
        found = detect(values)
    checker = RowChecker(found.mapping, repairs, drop)
    for row in chain(first, rows.rows):
        conversation = checker.check(row)
        if conversation and keep:
            keep(row, conversation)
    return Report(
        name=name,
        container=rows.container,
        format=found.format,
        encoding=source.encoding_name,
        rows=checker.rows,
        usable_rows=checker.usable_rows,
        characters=checker.characters,
        fields=tuple(checker.fields),
        mapping=found.mapping,
        labels=checker.labels(),
        preview=tuple(_preview(value) for value in values[:PREVIEW_ROWS]),
        problems=_all_problems(checker, source, rows, found),
    )


class RowChecker:
    """Checks one row after another and remembers what it found, not the rows.

    Args:
        mapping: How to read the rows; with ``None`` they are only counted.
        repairs: What to mend in the rows.
        drop: Codes of problems whose rows are passed over in silence.
    """

    def __init__(
        self,
        mapping: Mapping | None,
        repairs: Repairs = NO_REPAIRS,
        drop: frozenset[str] = frozenset(),
    ) -> None:
        self._mapping, self._repairs, self._drop = mapping, repairs, drop
        self.rows = 0
        self.fields: dict[str, None] = {}  # in the order of their first appearance
        self.usable_rows = 0
        self.characters = 0
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[Finding]] = {}
        self._row_of_conversation: dict[int, int] = {}
        self._answer_of_question: dict[int, tuple[int, int]] = {}
        self._labels = LabelCounter()
        self.first_row_of_answer: dict[str, tuple[int, int]] = {}

    def check(self, row: Row) -> Conversation | None:
        """Check a row and return what it teaches; ``None`` when that is nothing."""
        self.rows += 1
        if isinstance(row.value, dict) and not row.value.keys() <= self.fields.keys():
            self.fields.update(dict.fromkeys(row.value))
        try:
            if row.broken:
                raise RowProblem("broken-row", row.broken)
            if self._mapping is None:
                return None
            conversation = convert(row.value, self._mapping, self._repairs)
        except RowProblem as problem:
            self._note(problem.code, row, str(problem))
            return None
        contents = [message["content"] for message in conversation["messages"]]
        problems = [*text_problems("\n".join(contents), contents[-1])]
        if not self._is_dropped(problems):  # else later rows would repeat one that is not there
            problems += self._repeats(row, contents)
        if self._is_dropped(problems):
            return None
        for code, detail in problems:
            self._note(code, row, detail)
        self._count(row, contents)
        return conversation

    def labels(self) -> dict[str, int]:
        """Return the answers with their counts, the most frequent first, when they are labels."""
        return self._labels.labels()

    def _note(self, code: str, row: Row, detail: str) -> None:
        if code in self._drop:
            return
        self.counts[code] += 1
        first = self.first.setdefault(code, [])
        if len(first) < FIRST_FINDINGS:
            first.append(Finding(row.number, row.line, detail))

    def _is_dropped(self, problems: Sequence[tuple[str, str]]) -> bool:
        return any(code in self._drop for code, _ in problems)

    def _repeats(self, row: Row, contents: list[str]) -> Iterator[tuple[str, str]]:
        """Compare with the rows before, of which only hashes are kept: 64 bits of a keyed hash."""
        whole, question = hash(tuple(contents)), hash(tuple(contents[:-1]))
        earlier = self._row_of_conversation.setdefault(whole, row.number)
        if earlier != row.number:
            yield "duplicate", f"the same as row {earlier:,}."
            return
        answer, earlier = self._answer_of_question.setdefault(question, (whole, row.number))
        if answer != whole:
            yield "conflicting-answers", f"row {earlier:,} answers the same question differently."

    def _count(self, row: Row, contents: list[str]) -> None:
        self.usable_rows += 1
        self.characters += sum(map(len, contents))
        self._labels.add(contents[-1])
        is_short = len(contents[-1]) <= LABEL_CHARACTERS  # else it is no label
        if is_short and len(self.first_row_of_answer) <= MOST_DISTINCT:
            self.first_row_of_answer.setdefault(contents[-1], (row.number, row.line))


def _all_problems(
    checker: RowChecker, source: Source, rows: Rows, found: Detection
) -> tuple[Problem, ...]:
    problems = [
        _problem(code, count, checker.first[code]) for code, count in checker.counts.items()
    ]
    if found.mapping is None and checker.rows > checker.counts["broken-row"]:
        problems.append(_problem("unknown-columns", 1, [Finding(0, 0, found.question)]))
    if found.mapping is not None:
        problems += _unused_columns(list(checker.fields), found.mapping)
        problems += _label_problems(checker)
        if checker.usable_rows < FEW_ROWS:
            problems.append(_problem("few-rows", checker.usable_rows, []))
    if checker.rows == 0:
        hint = "Add at least one example, with a question and an answer."
        problems.append(_unreadable("There is no row in the file.", hint))
    if source.encoding_name in ("gb18030", "cp1252"):
        detail = f"it was read as {source.encoding_name.upper()}."
        problems.append(_problem("old-encoding", 1, [Finding(0, 0, detail)]))
    problems += [_problem("other-sheets", 1, [Finding(0, 0, note)]) for note in rows.notes]
    order = list(KINDS)
    return tuple(sorted(problems, key=lambda p: (p.severity != "error", order.index(p.code))))


def _problem(code: str, count: int, first: list[Finding]) -> Problem:
    kind = KINDS[code]
    return Problem(code, kind.severity, count, kind.message(count), kind.fix, tuple(first))


def _unreadable(message: str, hint: str) -> Problem:
    return replace(_problem("unreadable", 1, [Finding(0, 0, hint)]), message=message)


def _unused_columns(names: list[str], mapping: Mapping) -> list[Problem]:
    unused = [name for name in names if name not in mapping.fields]
    if not unused:
        return []
    findings = [Finding(0, 0, f"`{name[:60]}`") for name in unused[:FIRST_FINDINGS]]
    return [_problem("unused-column", len(unused), findings)]


def _label_problems(checker: RowChecker) -> list[Problem]:
    labels, total = checker.labels(), checker.usable_rows
    problems = []
    if labels:
        label, count = next(iter(labels.items()))
        if count > total * DOMINANT_SHARE:
            row, line = checker.first_row_of_answer[label]
            detail = (
                f"“{label}” is the answer in {count:,} of {total:,} rows ({count / total:.0%})."
            )
            problems.append(_problem("label-imbalance", 1, [Finding(row, line, detail)]))
    rare = [(label, count) for label, count in labels.items() if count <= RARE_ROWS]
    if rare:
        findings = [
            Finding(*checker.first_row_of_answer[label], f"“{label}”: {count:,} of {total:,} rows.")
            for label, count in rare
        ]
        problems.append(_problem("rare-label", len(rare), findings[:FIRST_FINDINGS]))
    return problems


def _preview(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {"": str(value)[:PREVIEW_CHARACTERS]}
    return {
        str(name): "" if cell is None else str(cell)[:PREVIEW_CHARACTERS]
        for name, cell in list(value.items())[:30]
    }
