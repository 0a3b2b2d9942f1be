"""A file of questions, asked like the rows of an evaluation but with nothing expected, and its answers as a table.

The questions are kept with the run, so that what was asked can be read, stopped and gone on with after the
file is gone.
"""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.data.adding import read_questions_in_child
from workbench.evaluation.answers import Answer, read_answers
from workbench.evaluation.request import QUESTIONS, EvaluationRequest, read_request
from workbench.evaluation.rows import select_rows
from workbench.models.thoughts import without_empty_thought
from workbench.runs.store import DataPart, Run, read_json
from workbench.runs.strength import strength_words
from workbench.settings import Settings, ensure_dir

# With these a spreadsheet takes a cell for a formula, which could do more than compute.
# https://owasp.org/www-community/attacks/CSV_Injection
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")  # noqa: RUF001 - so do these in East Asia
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


@dataclass(frozen=True)
class AnsweredRow:
    """One question.

    Attributes:
        row: Its number in the file the person brought.
        question: The last thing that was asked; what came before it is not repeated.
        answers: By ``base`` and ``tuned``; ``None`` for a model that has not been asked yet.
    """

    row: int
    question: str
    answers: dict[str, Answer | None]


@dataclass(frozen=True)
class AnswerTable:
    """What is on disk of the answers.

    Attributes:
        models: ``base``, ``tuned`` or both: those that are asked.
        rows: Every question that at least one of them has met.
        asked_rows: How many there are to ask.
        answer_tokens: The longest an answer could get; ``None`` before the first.
    """

    models: tuple[str, ...]
    rows: list[AnsweredRow]
    asked_rows: int
    answer_tokens: int | None

    @property
    def answered_rows(self) -> int:
        """Questions that every model has met, and could read."""
        return sum(
            all(answer and answer.text is not None for answer in row.answers.values())
            for row in self.rows
        )

    @property
    def is_complete(self) -> bool:
        return self.answered_rows + self.too_long == self.asked_rows

    @property
    def too_long(self) -> int:
        """Questions that are longer than the model can read."""
        return sum(
            any(answer and answer.text is None for answer in row.answers.values())
            for row in self.rows
        )

    @property
    def cut(self) -> int:
        """Answers that did not end by themselves."""
        return sum(
            not answer.ended for row in self.rows for answer in row.answers.values() if answer
        )


def questions_request(
    run: Run, settings: Settings, path: Path, name: str, **asked: Any
) -> EvaluationRequest:
    """Keep the questions of a file with a run; the same ones are kept once.

    Args:
        run: Whose models are to answer.
        settings: Where the workspace is, and how large a file may be.
        path: The file.
        name: What the person calls it.
        asked: ``base``, ``tuned``, ``checkpoint``, ``answer_tokens`` and ``strength`` of the request.

    Raises:
        WorkbenchError: As ``data.questions.write_questions``.
    """
    folder = ensure_dir(run.directory / "evaluations")
    partial_path = folder / f".{uuid.uuid4().hex}.part"
    try:
        found = read_questions_in_child(settings, path, name, partial_path)
        kept_path = folder / f"questions-{found.sha256[:12]}.jsonl"
        partial_path.replace(kept_path)
    finally:
        partial_path.unlink(missing_ok=True)
    part = DataPart(
        QUESTIONS, name, str(kept_path), found.sha256, found.rows, 1.0, found.left_out_rows
    )
    return EvaluationRequest(data=part, **asked)


def newest_questions(run: Run) -> EvaluationRequest | None:
    """Return which questions a run was asked last; ``None`` if there never were any."""
    paths = (run.directory / "evaluations").glob("*/request.json")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        if (request := read_request(path)).is_only_questions:
            return request
    return None


def read_answer_table(run: Run, request: EvaluationRequest) -> AnswerTable:
    """Read what was answered so far, in the order of the file.

    Raises:
        WorkbenchError: The questions or the model are gone.
    """
    said = {name: _tidied(path) for name, path in request.answer_paths(run).items()}
    asked = select_rows(run, request).rows
    rows = [
        AnsweredRow(row.row, row.question, {name: one.get(row.index) for name, one in said.items()})
        for row in asked
        if any(row.index in one for one in said.values())
    ]
    facts_path = request.directory(run) / "facts.json"
    tokens = read_json(facts_path)["answer_tokens"] if facts_path.exists() else None
    return AnswerTable(tuple(said), rows, len(asked), tokens)


def _tidied(path: Path) -> dict[int, Answer]:
    """Return the answers of a file; a thought in which nothing is thought is left out."""
    found = read_answers(path).answers
    return {
        index: replace(answer, text=answer.text and without_empty_thought(answer.text))
        for index, answer in found.items()
    }


def table_words(request: EvaluationRequest, table: AnswerTable) -> str:
    """Say how many questions of which file are answered, and what is missing or cut."""
    name = request.data.name if request.data else ""
    words = f"{name}: {table.answered_rows:,} of {table.asked_rows:,} questions answered"
    for number, what in (
        (
            request.data.left_out_rows if request.data else 0,
            "of the file left out (no question, or not readable)",
        ),
        (table.too_long, "longer than the model can read"),
    ):
        words += f"; {number:,} {'row' if number == 1 else 'rows'} {what}" if number else ""
    if table.cut:
        cut = "1 answer was" if table.cut == 1 else f"{table.cut:,} answers were"
        words += f"; {cut} cut at {table.answer_tokens:,} tokens"
    return f"{words}. {strength_words(request.strength) if request.tuned else ''}".rstrip()


def answer_records(rows: Sequence[AnsweredRow]) -> list[dict[str, Any]]:
    """Return the rows with the names that ``workbench evaluate --json`` uses.

    An answer is ``None`` where there is none yet, and where the question is longer than the model can read.
    """
    return [{"row": row.row, "question": row.question, **_fields(row.answers)} for row in rows]


def answers_jsonl(rows: Sequence[AnsweredRow]) -> str:
    """Return the rows as JSON lines."""
    records = answer_records(rows)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def answers_csv(rows: Sequence[AnsweredRow]) -> str:
    """Return the rows as CSV for a spreadsheet: no cell is a formula, and a mark in front says it is UTF-8."""
    records = answer_records(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]) if records else ["row", "question"])
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in one.items()} for one in records)
    return "\ufeff" + text.getvalue()  # without it Excel takes UTF-8 for an older encoding


def _fields(answers: dict[str, Answer | None]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, answer in answers.items():
        text = answer.text if answer else None
        fields[name] = text
        fields[f"{name}_ended"] = answer.ended if answer and text is not None else None
    return fields


def _cell(value: Any) -> Any:
    """Return a value as a spreadsheet takes it for what it is; an apostrophe in front says "text"."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value
