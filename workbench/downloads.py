"""How far a download is: told by one process, shown by others through a small file."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NoReturn, TypeVar

from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically

Result = TypeVar("Result")
WATCH_SECONDS = 1.0
_DOWNLOADING = "download"


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

    @property
    def is_active(self) -> bool:
        """Whether it goes on, as far as was written down."""
        return self.state in ("downloading", "converting")


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


def watched(
    download: Callable[[], Result], directory: Path, total_bytes: int, report: Report
) -> Result:
    """Return what ``download`` returns; once a second report the growth of the folder that it fills.

    Args:
        download: Runs in a thread, so that what ``report`` raises ends the waiting at once. The download itself
            cannot be interrupted: who gives it up must ``leave`` the process.
        directory: The folder.
        total_bytes: Of all that comes.
        report: Called here.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(download())
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits for it
            outcome.set_exception(error)

    threading.Thread(target=work, name=_DOWNLOADING, daemon=True).start()
    while not wait([outcome], WATCH_SECONDS).done:
        done = min(folder_bytes(directory), total_bytes)
        report(FetchProgress("downloading", done, total_bytes))
    return outcome.result()


def leave(code: int) -> NoReturn:
    """End this process; a download that was given up has threads that Python would wait for."""
    if any(thread.name == _DOWNLOADING for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def folder_bytes(directory: Path) -> int:
    """Return the size of all files in a folder, which may be filled meanwhile."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(FileNotFoundError):  # renamed while we look
            total += path.stat().st_size if path.is_file() else 0
    return total
