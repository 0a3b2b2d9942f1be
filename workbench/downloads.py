"""How far a download is: told by one process, shown by others through a small file."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically


@dataclass(frozen=True)
class FetchProgress:
    """One moment of a download.

    Attributes:
        state: What is being done, or how it ended.
        done_bytes: Downloaded so far.
        total_bytes: Size of the download; 0 when not known yet.
        message: A sentence for the person, for ``failed`` above all.
    """

    state: Literal["downloading", "converting", "done", "failed", "cancelled"]
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""


Report = Callable[[FetchProgress], None]


def write_progress(path: Path, progress: FetchProgress) -> None:
    """Replace the progress file."""
    write_text_atomically(path, json.dumps(asdict(progress)))


def read_progress(path: Path) -> FetchProgress | None:
    """Return the last written progress, or ``None`` when there is none."""
    try:
        return FetchProgress(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def check_free_space(name: str, needed_bytes: int, directory: Path, hint: str) -> None:
    """Refuse a download that does not fit on the disk of ``directory``.

    Raises:
        WorkbenchError: Says what is needed and what is free, and then ``hint``.
    """
    free_bytes = shutil.disk_usage(directory).free
    if needed_bytes > free_bytes:
        raise WorkbenchError(
            f"{name} needs {needed_bytes / 1e9:,.1f} GB and the disk has "
            f"{free_bytes / 1e9:,.1f} GB free.",
            hint,
        )


class FolderWatch:
    """Report the growth of a folder once a second while a download fills it."""

    def __init__(self, directory: Path, total_bytes: int, report: Report) -> None:
        self._directory, self._total_bytes, self._report = directory, total_bytes, report
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._finished.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._finished.wait(1.0):
            done = min(folder_bytes(self._directory), self._total_bytes)
            self._report(FetchProgress("downloading", done, self._total_bytes))


def folder_bytes(directory: Path) -> int:
    """Return the size of all files in a folder, which may be filled meanwhile."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # renamed while we look
            total += path.stat().st_size if path.is_file() else 0
    return total
