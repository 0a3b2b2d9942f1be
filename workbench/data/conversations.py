"""The file a dataset is trained from: ``conversations.jsonl``, one usable row on each line.

::

    {"row": 7, "line": 31, "messages": [{"role": "user", "content": "…"}, …]}

``row`` and ``line`` are those of the file the person brought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from workbench.data.formats import Conversation, Message
from workbench.data.readers import Row


@dataclass(frozen=True)
class StoredRow:
    """One usable row: what it teaches, and where it stood."""

    row: int
    line: int
    messages: list[Message]


class ConversationWriter:
    """Writes usable rows in the order they come."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, row: Row, conversation: Conversation) -> None:
        """Write one row; as ``keep`` of ``check.check_file``."""
        stored = {"row": row.number, "line": row.line, **conversation}
        self._file.write(json.dumps(stored, ensure_ascii=False, separators=(",", ":")))
        self._file.write("\n")


def read_conversations(path: Path) -> list[Conversation]:
    """Read all of a file."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return [{"messages": json.loads(line)["messages"]} for line in file]


def read_stored_rows(path: Path, first: int = 0, count: int | None = None) -> list[StoredRow]:
    """Read some rows: ``count`` of them from position ``first`` (from 0) on."""
    with path.open(encoding="utf-8", newline="\n") as file:
        stop = None if count is None else first + count
        return [StoredRow(**json.loads(line)) for line in islice(file, first, stop)]


def find_stored_rows(path: Path, words: str, count: int) -> Iterator[tuple[int, StoredRow]]:
    """Yield position and row of the first ``count`` rows in which the words stand, in any case."""
    wanted, found = words.casefold(), 0
    with path.open(encoding="utf-8", newline="\n") as file:
        for position, line in enumerate(file):
            row = StoredRow(**json.loads(line))
            if any(wanted in message["content"].casefold() for message in row.messages):
                yield position, row
                found += 1
                if found == count:
                    return
