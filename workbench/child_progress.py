"""How far an evaluation or export is: told by its process in ``progress.jsonl``, read by page and terminal."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

LOCK = ".lock"  # its process holds it, from before it does anything
State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Progress:
    """One moment of an evaluation or export.

    Attributes:
        words: What it does now, for a person.
        done: What is done of this part of the work, in rows, layers, weights or bytes.
        total: All of this part; 0 where nothing is counted.
        state: ``running`` until the last line.
        message: What went wrong, if it did.
        hint: What to do about it.
        part_began: When this part began, in seconds since the epoch.
        time: When this was said.
    """

    words: str = "Starting"
    done: int = 0
    total: int = 0
    state: State = "running"
    message: str = ""
    hint: str = ""
    part_began: float = field(default_factory=time.time)
    time: float = field(default_factory=time.time)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds this part will still take, once some of it is done."""
        if not self.done or self.state != "running":
            return None
        return (self.time - self.part_began) / self.done * (self.total - self.done)


class ProgressWriter:
    """Writes the progress of one evaluation or export.

    Args:
        path: A ``progress.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = Progress()

    def enter(self, words: str, total: int = 0) -> None:
        """Say that another part of the work begins."""
        self._part = Progress(words, 0, total)
        self._write(self._part)

    def advance(self, count: int) -> None:
        """Say that so much more is done."""
        part = self._part
        self._part = Progress(part.words, part.done + count, part.total, part_began=part.part_began)
        self._write(self._part)

    def end(self, state: State, message: str = "", hint: str = "") -> None:
        """Say the last word."""
        self._write(Progress("", state=state, message=message, hint=hint))

    def _write(self, progress: Progress) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress), ensure_ascii=False) + "\n")


def is_alive(directory: Path) -> bool:
    """Say whether a process works on this folder: it holds the lock, however it ends it lets go."""
    return is_held(directory / LOCK)


def is_held(lock_path: Path, patience_seconds: float = 0.0) -> bool:
    """Say whether somebody holds a lock, and for longer than ``patience_seconds``."""
    if not lock_path.exists():
        return False
    try:
        with FileLock(lock_path, timeout=patience_seconds):
            return False
    except Timeout:
        return True


def read_progress(path: Path) -> Progress | None:
    """Return the newest line; ``None`` before the first one."""
    if not path.exists():
        return None
    known = {item.name for item in fields(Progress)}
    for line in reversed(path.read_bytes().splitlines()):
        try:
            record = json.loads(line)
            return Progress(**{name: value for name, value in record.items() if name in known})
        except (ValueError, TypeError, AttributeError):
            continue  # half-written
    return None
