"""The verb ``answer``: a model answers a file of questions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from workbench.cli_evaluate import (
    add_strength_option,
    ask,
    check_base,
    checked_out_path,
    chosen_checkpoint,
    count_from_1,
)
from workbench.config import ANSWER_TOKENS
from workbench.errors import WorkbenchError
from workbench.evaluation.questions import (
    AnswerTable,
    answer_records,
    answers_csv,
    answers_jsonl,
    questions_request,
    read_answer_table,
    table_words,
)
from workbench.evaluation.request import EvaluationRequest
from workbench.files import write_text_atomically
from workbench.runs.store import Run
from workbench.runs.strength import chosen_strength
from workbench.services import Services

WRITERS = {".csv": answers_csv, ".jsonl": answers_jsonl}
NO_ANSWER = "(no answer)"


def add_answer_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    verb = verbs.add_parser("answer", help="answer a file of questions")
    verb.add_argument("run", metavar="RUN", help="the run's id, or latest")
    verb.add_argument(
        "--file",
        required=True,
        metavar="FILE",
        help="the questions: one a line in a .txt file, or rows as for training, without answers",
    )
    who = verb.add_mutually_exclusive_group()
    who.add_argument("--base", action="store_true", help="ask the model before training instead")
    who.add_argument("--both", action="store_true", help="ask it as well")
    verb.add_argument("--checkpoint", type=int, metavar="N", help="the model after step N")
    verb.add_argument(
        "--max-tokens",
        type=count_from_1,
        default=ANSWER_TOKENS,
        metavar="N",
        help="longest answer, in tokens (default: %(default)s)",
    )
    add_strength_option(verb)
    verb.add_argument("--out", metavar="FILE", help="write the answers: .csv or .jsonl")
    verb.add_argument("--json", action="store_true", help="print one JSON document")
    verb.set_defaults(run_command=run_answer)


def run_answer(services: Services, options: argparse.Namespace) -> int:
    """Ask what was not asked before, and print or write the answers."""
    check_base(options)
    out = _out_path(options.out) if options.out else None
    run, path = services.runs.get(options.run), Path(options.file)
    request = questions_request(
        run,
        services.settings,
        path,
        path.name,
        base=options.base or options.both,
        tuned=not options.base,
        checkpoint=chosen_checkpoint(run, options),
        answer_tokens=options.max_tokens,
        strength=chosen_strength(run, options.strength),
    )
    is_complete = read_answer_table(run, request).is_complete
    code = 0 if is_complete else ask(services, run, request, quiet=options.json)
    table = read_answer_table(run, request)
    if out:
        write_text_atomically(out, WRITERS[out.suffix.lower()](table.rows))
    if options.json:
        print(json.dumps(_document(run, request, table), indent=2, ensure_ascii=False))
    elif not out:
        print("\n".join(_lines(table)))
    if not options.json:
        print(table_words(request, table), file=sys.stderr)
    return code


def _out_path(text: str) -> Path:
    """Return where to write, in a format that there is."""
    if Path(text).suffix.lower() not in WRITERS:
        raise WorkbenchError(f"{text} is neither .csv nor .jsonl.", "Choose one of these endings.")
    return checked_out_path(text)


def _document(run: Run, request: EvaluationRequest, table: AnswerTable) -> dict[str, Any]:
    return {
        "run": run.id,
        "name": run.name,
        "model": run.config.model,
        "checkpoint": request.checkpoint,
        "strength": request.strength,
        "file": request.data.name if request.data else None,
        "questions": table.asked_rows,
        "left_out_rows": request.left_out_rows(run),
        "too_long_rows": table.too_long,
        "answer_tokens": table.answer_tokens,
        "complete": table.is_complete,
        "rows": answer_records(table.rows),
    }


def _lines(table: AnswerTable) -> list[str]:
    lines = []
    for row in table.rows:
        lines.append(f"{row.row}. {row.question}")
        for name, answer in row.answers.items():
            said = answer.text if answer else None
            lines.append(f"   {name}: {NO_ANSWER if said is None else said}")
    return lines
