"""Read a file of questions for a model to answer: every kind of file that data may be, and plain lines.

What comes out is ``conversations.jsonl`` without the answers::

    {"row": 7, "line": 31, "messages": [{"role": "user", "content": "…"}]}
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from workbench.data.check import DETECTION_ROWS
from workbench.data.conversations import ConversationWriter
from workbench.data.detect import INPUTS, QUESTIONS, TEXTS, detect
from workbench.data.formats import Mapping, Message, RowProblem, convert_question
from workbench.data.readers import Row, read_rows
from workbench.data.source import Source, open_source
from workbench.data.store import check_size
from workbench.data.tables import CELL_CHARACTERS, DELIMITERS
from workbench.errors import WorkbenchError

# A small model on a laptop answers one in a second; and all of them are read into memory.
MOST_QUESTIONS = 100_000
MOST_CHARACTERS = 1_000_000  # in a question; to cut more into tokens takes minutes
HINT = (
    "Name the column with the questions `question`, or write one question a line into a .txt file."
)
NAMES = (*QUESTIONS, *INPUTS, *TEXTS)
NO_DELIMITER = "\x1f"  # stands in no text, so that a line is one cell


@dataclass(frozen=True)
class QuestionFile:
    """What was found in a file.

    Attributes:
        rows: Questions.
        left_out_rows: Rows that ask nothing, or cannot be read.
        sha256: Of the questions as they were written, hexadecimal.
    """

    rows: int
    left_out_rows: int
    sha256: str


def write_questions(
    path: Path, name: str, questions_path: Path, limit_bytes: int, most: int = MOST_QUESTIONS
) -> QuestionFile:
    """Write the questions of a file.

    Args:
        path: The file.
        name: What the person calls it; a name that ends in ``.txt`` means one question a line.
        questions_path: Where to write.
        limit_bytes: Largest file.
        most: Most questions.

    Raises:
        WorkbenchError: Too large, not readable, without any question, or it cannot be kept.
    """
    check_size(path, name, limit_bytes)
    try:
        with questions_path.open("w", encoding="utf-8", newline="\n") as file:
            kept, left_out = _write(_read(path, name), name, ConversationWriter(file), most)
        with questions_path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
    except OSError as error:
        raise WorkbenchError(
            f"Cannot keep the questions of {name}: {error.strerror or error}.", "Free some space."
        ) from error
    return QuestionFile(kept, left_out, digest)


def _write(
    rows: Iterator[tuple[Row, list[Message] | RowProblem]],
    name: str,
    writer: ConversationWriter,
    most: int,
) -> tuple[int, int]:
    """Write the questions; return how many, and how many rows are none."""
    kept, left_out, why = 0, 0, "There is no row in it."
    for row, found in rows:
        if isinstance(found, RowProblem):
            if not left_out:
                why = f"Row {row.number:,} (line {row.line:,}): {found}"
            left_out += 1
        elif kept == most:
            raise WorkbenchError(f"{name} has more than {most:,} questions.", "Split the file.")
        else:
            kept += 1
            writer.add(row, {"messages": found})
    if not kept:
        raise WorkbenchError(f"There is no question in {name}. {why}", HINT)
    return kept, left_out


# "[urgent] What is this?" is a question.
_BEGINS_JSON = re.compile(r'[\[{]\s*(?:$|[\[{"\]}])')


def _read(path: Path, name: str) -> Iterator[tuple[Row, list[Message] | RowProblem]]:
    """Yield every row with what it asks, or with why it asks nothing."""
    with open_source(path, name) as source:
        rows = map(_named, _rows(source, name))
        first = list(islice(rows, DETECTION_ROWS))
        mapping = _mapping([row for row in first if not row.broken], name)
        for row in chain(first, rows):
            try:
                yield row, _question(row, mapping)
            except RowProblem as problem:
                yield row, problem


def _question(row: Row, mapping: Mapping) -> list[Message]:
    if row.broken:
        raise RowProblem("broken-row", row.broken)
    messages = convert_question(row.value, mapping)
    if sum(len(message["content"]) for message in messages) > MOST_CHARACTERS:
        raise RowProblem("too-long", "longer than any model can read.")
    return messages


def _named(row: Row) -> Row:
    """Give a row that is only text its name; a JSON list may hold such."""
    return replace(row, value={"question": row.value}) if isinstance(row.value, str) else row


def _mapping(rows: list[Row], name: str) -> Mapping:
    found = detect([row.value for row in rows], with_answers=False)
    if found.mapping is None:
        raise WorkbenchError(f"It is not clear what {name} asks. {found.question}", HINT)
    return found.mapping


def _rows(source: Source, name: str) -> Iterator[Row]:
    if source.kind == "text":
        with source.open_text() as file:
            first = next((line for line in file if line.strip()), "").strip()
        if first and not _BEGINS_JSON.match(first):
            if name.lower().removesuffix(".gz").endswith(".txt"):
                return _lines(source)
            if all(len(next(csv.reader([first], delimiter=mark))) < 2 for mark in DELIMITERS):
                return _cells(source)
    return read_rows(source, name).rows


def _lines(source: Source) -> Iterator[Row]:
    number = 0
    with source.open_text() as file:
        for line_number, line in enumerate(file, start=1):
            if text := line.strip():
                number += 1
                yield Row(number, line_number, text)


def _cells(source: Source) -> Iterator[Row]:
    """Read a table of one column, with or without a name above it."""
    csv.field_size_limit(CELL_CHARACTERS)
    number, line = 0, 1
    with source.open_text() as file:
        reader = csv.reader(file, delimiter=NO_DELIMITER)
        try:
            for cells in reader:
                text = "".join(cells).strip()
                is_name = number == 0 and text.lower() in NAMES
                if text and not is_name:
                    number += 1
                    yield Row(number, line, text)
                line = reader.line_num + 1
        except csv.Error as error:
            yield Row(number + 1, line, None, str(error))
