"""Start, watch and stop the process that asks the models. No torch: page and terminal use it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.child_progress import Progress, read_progress
from workbench.evaluation.request import EvaluationRequest, write_request
from workbench.processes import start_child
from workbench.runs.store import Run
from workbench.settings import Settings

PROGRESS, STOP, LOCK = "progress.jsonl", "stop", ".lock"
POLL_SECONDS = 0.3
STARTING_SECONDS = 15  # until a new process holds its lock, on a busy computer
LOST = "The process that asked the models is gone and never said why. Most often memory ran out."


def start(run: Run, request: EvaluationRequest, settings: Settings) -> subprocess.Popen[bytes]:
    """Start answering a request; one that runs already for the same data goes on, and this one ends.

    Raises:
        WorkbenchError: The model or checkpoint is not there.
    """
    request.answer_paths(run)
    directory = request.directory(run)
    if not is_alive(directory):
        (directory / STOP).unlink(missing_ok=True)
        (directory / PROGRESS).unlink(missing_ok=True)
    path = write_request(run, request)
    arguments = ["-m", "workbench.evaluation", str(run.directory), str(path)]
    return start_child(arguments, settings, directory / "log.txt")


def watch(directory: Path, child: subprocess.Popen[bytes]) -> Iterator[Progress]:
    """Yield how far an evaluation is, a few times a second, until its last word."""
    while True:
        # Look at the process first: one that ends in between has then already said its last word.
        alive = child.poll() is None or is_alive(directory)
        progress = read_progress(directory / PROGRESS) or Progress()
        if progress.state == "running" and not alive:
            progress = _lost(directory)
        yield progress
        if progress.state != "running" and not alive:
            return
        time.sleep(POLL_SECONDS)


def look(directory: Path) -> Progress | None:
    """Return how far an evaluation is, also one that somebody else started; ``None`` where none ever was."""
    # The process first, as above.
    alive = is_alive(directory)
    progress = read_progress(directory / PROGRESS)
    if alive:
        return progress or Progress()
    request_path = directory / "request.json"
    if progress is None and request_path.exists():
        age_seconds = time.time() - request_path.stat().st_mtime
        return Progress() if age_seconds < STARTING_SECONDS else _lost(directory)
    return _lost(directory) if progress and progress.state == "running" else progress


def request_stop(directory: Path) -> None:
    """Ask an evaluation to stop; what was answered is kept."""
    (directory / STOP).touch()


def _lost(directory: Path) -> Progress:
    hint = f"Start it again: what was answered is kept. The log is {directory / 'log.txt'}."
    return Progress("", state="failed", message=LOST, hint=hint)


def is_alive(directory: Path) -> bool:
    """Say whether a process works on this folder: it holds the lock, however it ends it lets go."""
    if not (directory / LOCK).exists():
        return False
    try:
        with FileLock(directory / LOCK, timeout=0):
            return False
    except Timeout:
        return True
