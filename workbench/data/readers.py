"""Rows out of text and tables, each with its number and its line.

Knows nothing of what the rows mean; ``formats`` does. A row that cannot be read is handed on as such,
with the reason, and reading goes on after it where that is possible.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

from workbench.data.source import Source, UnreadableFile
from workbench.data.tables import TableRow, iterate_delimited, iterate_parquet, iterate_workbook
from workbench.data.window import TextWindow, explain, parse_json

# Under these names an object at the top of a file holds the rows; another object is a row itself.
WRAPPERS = frozenset({"data", "rows", "examples", "records", "items", "train", "dataset"})


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        number: 1 for the first row.
        line: Line of the file, or of the sheet, on which it starts; 1 for the first.
        value: What stands there, usually a dict of field and value.
        broken: Why it cannot be read; empty when it can.
    """

    number: int
    line: int
    value: Any
    broken: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of a file, and what it is: ``json``, ``jsonl``, ``csv``, ``tsv``, ``parquet``, ``xlsx``."""

    container: str
    rows: Iterator[Row]
    notes: tuple[str, ...] = ()


def read_rows(source: Source, name: str) -> Rows:
    """Start reading; the rows come while they are asked for, so a large file needs little memory.

    Raises:
        UnreadableFile: Now or during the iteration, when the file as a whole cannot be read.
    """
    if source.kind == "parquet":
        return Rows("parquet", _numbered(iterate_parquet(source.path, name)))
    if source.kind == "xlsx":
        table, notes = iterate_workbook(source.path, name)
        return Rows("xlsx", _numbered(table), notes)
    with source.open_text() as file:
        start = _first_character(file)
        file.seek(0)
        is_lines = start == "{" and _is_json_lines(file)
    if not start:
        raise UnreadableFile(f"{name} is empty.", "Choose the file that holds your rows.")
    if is_lines:
        return Rows("jsonl", _lines(source))
    if start in "[{":
        return Rows("json", _json(source, name))
    container, table = iterate_delimited(source, name)
    return Rows(container, _numbered(table))


def _numbered(table: Iterator[TableRow]) -> Iterator[Row]:
    for number, row in enumerate(table, start=1):
        yield Row(number, row.line, row.value, row.broken)


def _first_character(file: TextIO) -> str:
    while chunk := file.read(65536):
        if stripped := chunk.lstrip():
            return stripped[0]
    return ""


def _is_json_lines(file: TextIO) -> bool:
    """Say whether every object stands on one line; a file called .json often is like that."""
    lines = list(islice((line for line in file if line.strip()), 2))
    parsed = [_try_object(line) for line in lines]
    if len(lines) == 1:  # a single object: rows inside it, or one row
        return parsed[0] is not None and not WRAPPERS & parsed[0].keys()
    return any(value is not None for value in parsed)


def _try_object(line: str) -> dict[str, Any] | None:
    try:
        value = parse_json(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _lines(source: Source) -> Iterator[Row]:
    with source.open_text() as file:
        number = 0
        for line_number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            number += 1
            try:
                yield Row(number, line_number, parse_json(line))
            except (ValueError, RecursionError) as error:
                column = (
                    f"column {error.colno:,}: " if isinstance(error, json.JSONDecodeError) else ""
                )
                yield Row(number, line_number, None, f"{column}not valid JSON ({explain(error)})")


def _json(source: Source, name: str) -> Iterator[Row]:
    """Read a list, an object that holds one, or objects one after another."""
    number = 0
    with source.open_text() as file:
        window = TextWindow(file)
        try:
            for line, value in _json_values(window):
                number += 1
                yield Row(number, line, value)
        except (ValueError, RecursionError) as error:
            place, why = window.describe(error)
            rows = "1 row was" if number == 1 else f"{number:,} rows were"
            yield Row(
                number + 1,
                place.line,
                None,
                f"column {place.column:,}: not valid JSON ({why}), so the rest of {name} cannot be read; "
                f"{rows} readable before it",
            )


def _json_values(window: TextWindow) -> Iterator[tuple[int, Any]]:
    window.skip_space()
    while window.peek():
        if window.peek() == "[":
            yield from _elements(window)
            window.skip_space()
            if window.peek():
                raise window.error("more text after the closing ]")
        else:
            yield from _object(window)
            window.skip_space()
            if window.peek() == ",":
                window.take(",")


def _elements(window: TextWindow) -> Iterator[tuple[int, Any]]:
    window.take("[")
    while window.peek() != "]":
        yield window.line, window.decode()
        if window.peek() == ",":
            window.take(",")
            if window.peek() == "]":
                raise window.error("a comma before the closing ]")
        elif window.peek() != "]":
            raise window.error("expected a comma or ]")
    window.take("]")


def _object(window: TextWindow) -> Iterator[tuple[int, Any]]:
    """Read one object at the top: its rows when it holds some under a usual name, else itself."""
    line, members, has_rows = window.line, {}, False
    window.take("{")
    while window.peek() != "}":
        key = window.decode()
        window.take(":")
        if key in WRAPPERS and window.peek() == "[" and not has_rows:
            has_rows = True
            yield from _elements(window)
        else:
            members[str(key)] = window.decode()
        if window.peek() == ",":
            window.take(",")
        elif window.peek() != "}":
            raise window.error("expected a comma or }")
    window.take("}")
    if not has_rows:
        yield line, members
