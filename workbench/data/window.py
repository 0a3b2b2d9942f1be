"""JSON from a text file of any size: only the part around the present value is in memory."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, TextIO

CHUNK_CHARACTERS = 1 << 20
# A value cut off at the end of the window fails within this many characters of it, or is a text
# without its closing quotation mark, of which the decoder tells the beginning.
UNFINISHED_CHARACTERS = 16

_WHITESPACE = re.compile(r"[ \t\r\n]*")


class Place(NamedTuple):
    """Where something stands in the file, both from 1."""

    line: int
    column: int


def _parse_int(digits: str) -> int | float:
    # Python refuses to convert thousands of digits, as that takes long; nobody means such a number.
    return int(digits) if len(digits) < 400 else float("inf")


# NaN and Infinity are no JSON, but Python and pandas write them: an empty cell, mostly.
_DECODER = json.JSONDecoder(parse_constant=lambda word: None, parse_int=_parse_int)


def parse_json(text: str) -> Any:
    """Parse one JSON document.

    Raises:
        json.JSONDecodeError: It is none.
        RecursionError: It is nested too deeply.
    """
    return _DECODER.decode(text)


def explain(error: Exception) -> str:
    """Say in lower case what the parser found wrong."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return message[:1].lower() + message[1:]


class TextWindow:
    """A reading position in a text file that holds JSON.

    Attributes:
        line: Line of the reading position, from 1.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._position = 0
        self._columns_before = 0  # characters of the present line that have left the window
        self._file_ended = False
        self.line = 1

    def peek(self) -> str:
        """Return the next character, or nothing at the end of the file."""
        return self._text[self._position : self._position + 1]

    def take(self, character: str) -> None:
        """Go past one character and the space after it.

        Raises:
            json.JSONDecodeError: Another character stands there.
        """
        if self.peek() != character:
            raise self.error(f"expected {character}")
        self._advance(self._position + 1)
        self.skip_space()

    def skip_space(self) -> None:
        """Go to the next character that is no space."""
        while True:
            match = _WHITESPACE.match(self._text, self._position)
            self._advance(match.end() if match else self._position)
            if self._position < len(self._text) or not self._read_more():
                return

    def decode(self) -> Any:
        """Return the value that begins here, and go past it and the space after it.

        Raises:
            json.JSONDecodeError: There is no complete value.
            RecursionError: It is nested too deeply.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not self._may_be_unfinished(error) or not self._read_more():
                    raise
                continue
            if end < len(self._text) or not self._read_more():  # a number may go on
                self._advance(end)
                self.skip_space()
                return value

    def error(self, why: str) -> json.JSONDecodeError:
        """Make an error about the reading position."""
        return json.JSONDecodeError(why, self._text, self._position)

    def describe(self, error: Exception) -> tuple[Place, str]:
        """Return where an error of this window's stands, and what is wrong there."""
        at, why = self._position, explain(error)
        if isinstance(error, json.JSONDecodeError):
            at = error.pos
            is_cut_off = at >= len(self._text.rstrip()) or why.startswith("unterminated")
            why = "the file ends too early" if self._file_ended and is_cut_off else why
        line = self.line + self._text.count("\n", self._position, at)
        line_start = self._text.rfind("\n", 0, at) + 1
        column = at - line_start + 1 + (0 if line_start else self._columns_before)
        return Place(line, column), why

    def _may_be_unfinished(self, error: json.JSONDecodeError) -> bool:
        near_end = error.pos >= len(self._text) - UNFINISHED_CHARACTERS
        return near_end or error.msg.startswith("Unterminated string")

    def _advance(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _read_more(self) -> bool:
        """Let what was read leave and as much come in as is still needed, so at least doubling."""
        rest = self._text[self._position :]
        chunk = self._file.read(max(CHUNK_CHARACTERS, len(rest)))
        if not chunk:
            self._file_ended = True
            return False
        gone = self._text[: self._position]
        newline = gone.rfind("\n")
        self._columns_before = (
            len(gone) + self._columns_before if newline < 0 else len(gone) - newline - 1
        )
        self._text, self._position = rest + chunk, 0
        return True
