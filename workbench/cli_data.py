"""The verbs about data: ``check``, ``fix`` and ``datasets``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.data.check import check_file
from workbench.data.detect import parse_mapping
from workbench.data.fixes import DROPPABLE, Fixes, fix_file
from workbench.data.report import Report
from workbench.data.store import SAMPLES
from workbench.defaults import UNCOUNTED_LENGTH_TOKENS
from workbench.errors import WorkbenchError
from workbench.models.rendering import load_tokenizer
from workbench.models.sources import find_model
from workbench.models.tokens import TokenCounter
from workbench.services import Services
from workbench.settings import SAMPLES_DIR

FIX_FLAGS = {
    "drop-invalid": "leave out rows that stop training",
    "deduplicate": "keep the first of equal rows",
    "trim": "remove outer space and characters that are no text",
    "convert": "turn numbers and true/false into text",
    "cut-unanswered": "cut what follows the last answer of a conversation",
}


def add_data_verbs(verbs: Any) -> None:
    """Describe the commands to the parser."""
    check = verbs.add_parser("check", help="check a data file, row by row; exit code 1: not usable")
    check.add_argument("file", metavar="FILE", help="a data file, or a sample")
    _add_map(check)
    check.add_argument("--model", metavar="ID", help="count tokens as this model does")
    check.add_argument(
        "--max-length",
        type=int,
        default=UNCOUNTED_LENGTH_TOKENS,
        metavar="N",
        help="what counts as too long, in tokens (default: %(default)s)",
    )
    check.add_argument("--json", action="store_true", help="print one JSON document")
    check.set_defaults(run_command=run_check)

    fix = verbs.add_parser("fix", help="write a repaired copy of a data file")
    fix.add_argument("file", metavar="FILE", help="a data file; it is not touched")
    fix.add_argument("--out", required=True, metavar="FILE", help="the new file, .json or .jsonl")
    _add_map(fix)
    for name, words in FIX_FLAGS.items():
        fix.add_argument(f"--{name}", action="store_true", help=words)
    fix.add_argument(
        "--drop",
        action="append",
        default=[],
        choices=sorted(DROPPABLE),
        metavar="CODE",
        help=f"leave out rows with this warning: {', '.join(sorted(DROPPABLE))}",
    )
    fix.add_argument("--json", action="store_true", help="print one JSON document")
    fix.set_defaults(run_command=run_fix)

    datasets = verbs.add_parser("datasets", help="list the datasets of the workspace")
    datasets.add_argument("--json", action="store_true", help="print one JSON document")
    datasets.set_defaults(run_command=run_datasets)


def _add_map(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--map",
        nargs="+",
        action="extend",
        default=[],
        metavar="PART=COLUMN",
        help="which column is what, where the names do not tell: question=… answer=…",
    )


def run_check(services: Services, options: argparse.Namespace) -> int:
    """Check a file; return 0 when it can be trained on, else 1."""
    path = data_path(options.file)
    counter = _counter(services, options.model) if options.model else None
    report = check_file(
        path, path.name, parse_mapping(options.map), counter.add if counter else None
    )
    tokens = counter.report(options.max_length) if counter and report.usable_rows else None
    if options.json:
        document = report.as_json() | {"usable": report.is_usable}
        document |= {"tokens": asdict(tokens)} if tokens else {}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print("\n".join(report_lines(report)))
        if tokens:
            print(
                f"{tokens.total:,} tokens; a row has {tokens.min:,} to {tokens.max:,}, half of them at "
                f"most {tokens.median:,}. {tokens.over_limit:,} rows are longer than "
                f"{options.max_length:,} tokens."
            )
    return 0 if report.is_usable else 1


def run_fix(services: Services, options: argparse.Namespace) -> int:
    """Write a repaired copy; return 0 when it can be trained on, else 1."""
    path, out_path = data_path(options.file), Path(options.out)
    if out_path.exists():
        raise WorkbenchError(f"{out_path} exists already.", "Choose another name with --out.")
    chosen = [name for name in FIX_FLAGS if getattr(options, name.replace("-", "_"))]
    fixes = Fixes.for_names([*chosen, *(f"drop:{code}" for code in options.drop)])
    before, after = fix_file(path, path.name, out_path, fixes, parse_mapping(options.map))
    if options.json:
        document = {"before": before.as_json(), "after": after.as_json()}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(f"{before.rows:,} rows read, {after.rows:,} written.")
        print("\n".join(report_lines(after)))
    return 0 if after.is_usable else 1


def run_datasets(services: Services, options: argparse.Namespace) -> int:
    """List the samples and what was added."""
    infos = [services.datasets.info(sample) for sample in SAMPLES] + services.datasets.uploads()
    if options.json:
        print(json.dumps([asdict(info) for info in infos], indent=2, ensure_ascii=False))
    for info in [] if options.json else infos:
        state = "" if info.is_usable else "  needs repair"
        print(f"{info.id:54} {info.row_count:>9,} rows  {info.name}{state}")
    return 0


def _counter(services: Services, model: str) -> TokenCounter:
    source = find_model(model, allow_folder=True)
    return TokenCounter(load_tokenizer(services.models.ensure(source, lambda progress: None)))


def data_path(text: str) -> Path:
    """Return the file behind what was typed: a path, or the name of a sample.

    Raises:
        WorkbenchError: There is no such file.
    """
    path = SAMPLES_DIR / SAMPLES[text][0] if text in SAMPLES else Path(text)
    if not path.is_file():
        raise WorkbenchError(f"There is no file {text}.", "Check the name and the folder.")
    return path


def report_lines(report: Report) -> list[str]:
    """Write a report for a terminal."""
    lines = []
    if report.container:
        lines.append(
            f"{report.name}: {report.rows:,} rows, {report.usable_rows:,} usable ({report.kind_words})"
        )
    for problem in report.problems:
        lines.append(f"{problem.severity.upper()} {problem.code}: {problem.message}")
        for first in problem.first:
            where = f"row {first.row:,} (line {first.line:,}): " if first.row else ""
            lines.append(f"    {where}{first.detail}")
        if problem.count > len(problem.first) > 0:
            lines.append(f"    and {problem.count - len(problem.first):,} more")
    lines.append("It can be trained on." if report.is_usable else "It cannot be trained on yet.")
    return lines
