"""Read a JSON list from disk, remembering the line every row starts on.

Knows nothing of what the rows mean; ``formats`` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError

_WHITESPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Row:
    """One element of the list.

    Attributes:
        number: 1 for the first row.
        line: Line of the file on which the row starts, 1 for the first.
        value: Whatever JSON value stands there.
    """

    number: int
    line: int
    value: Any


def read_rows(path: Path, name: str) -> list[Row]:
    """Read a UTF-8 JSON file that holds one list.

    Args:
        path: The file.
        name: What the person calls it; used in messages only.

    Raises:
        WorkbenchError: Empty, not UTF-8, not JSON, not a list, or an empty list; says where.
    """
    text = _read_text(path, name)
    if not text.strip():
        raise WorkbenchError(
            f"{name} is empty.", "Choose the file that holds your examples, as a JSON list."
        )
    rows = list(_iterate_list(text, name))
    if not rows:
        raise WorkbenchError(
            f"{name} holds an empty list.", "Add at least one example with instruction and output."
        )
    return rows


def _read_text(path: Path, name: str) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise WorkbenchError(
            f"Cannot read {name}: {error.strerror or error}.", "Check the file's name and rights."
        ) from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise WorkbenchError(
            f"{name}, line {line:,}: this is not UTF-8 text (byte 0x{raw[error.start]:02x}).",
            'Open the file in a text editor and save it again with the encoding "UTF-8".',
        ) from error


def _iterate_list(text: str, name: str) -> Iterator[Row]:
    """Decode one element at a time, so that an error knows how many rows before it were readable."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    position = _skip_space(text, 0)
    if text[position] != "[":
        raise WorkbenchError(
            f"{name} is not a JSON list: it starts with {text[position : position + 12]!r}.",
            'The file must look like [{"instruction": "…", "output": "…"}, …].',
        )
    position = _skip_space(text, position + 1)
    line, counted_to, number = 1, 0, 0
    while not text.startswith("]", position):
        line, counted_to = line + text.count("\n", counted_to, position), position
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            why = error.msg[:1].lower() + error.msg[1:]
            raise _syntax_error(text, name, error.pos, why, number) from error
        except (ValueError, RecursionError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise _syntax_error(text, name, position, why, number) from error
        number += 1
        yield Row(number, line, value)
        position = _skip_space(text, position)
        if text.startswith(",", position):
            position = _skip_space(text, position + 1)
            if text.startswith("]", position):
                raise _syntax_error(text, name, position, "a comma before the closing ]", number)
        elif not text.startswith("]", position):
            raise _syntax_error(text, name, position, "expected a comma or ]", number)
    rest = _skip_space(text, position + 1)
    if rest < len(text):
        raise _syntax_error(text, name, rest, "more text after the closing ]", number)


def _skip_space(text: str, position: int) -> int:
    match = _WHITESPACE.match(text, position)
    return match.end() if match else position


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _syntax_error(text: str, name: str, position: int, why: str, readable: int) -> WorkbenchError:
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    what = "the file ends too early" if position >= len(text) else why
    return WorkbenchError(
        f"{name}, line {line:,}, column {column:,}: not valid JSON ({what}). "
        f"{readable:,} {'row was' if readable == 1 else 'rows were'} readable before it.",
        "Correct the file at that place and try again.",
    )
