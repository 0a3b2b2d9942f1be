"""Start, watch and stop the process that asks the models. No torch: page and terminal use it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from workbench.child_progress import Progress, ProgressWriter, is_alive, read_progress
from workbench.evaluation.request import EvaluationRequest, read_request, write_request
from workbench.failures import Words
from workbench.processes import start_child
from workbench.runs.store import Run
from workbench.settings import Settings

REQUEST, PROGRESS, STOP = "request.json", "progress.jsonl", "stop"
POLL_SECONDS = 0.3
WAITING_SECONDS = 0.05
STARTING_SECONDS = 15  # until a new process holds its lock, on a busy computer
STOPPING_SECONDS = 5  # it looks at every token, but not while it loads a model
LOST = "The process that asked the models is gone and never said why. Most often memory ran out."
WORDS: Words = {
    "memory": (
        "The computer ran out of memory.",
        "Close other programs; what was answered is kept.",
    ),
    "disk": ("The disk is full.", "Free some space and evaluate again; what was answered is kept."),
}


def start(run: Run, request: EvaluationRequest, settings: Settings) -> subprocess.Popen[bytes]:
    """Start answering a request; the same one goes on if it runs already, another one of the same data stops.

    ``progress.jsonl`` and ``stop`` are of the present request only if they are newer than it; what is older stays
    until the new process clears it away, so that whoever watches the one before finds its last word.

    Raises:
        WorkbenchError: The model or checkpoint is not there.
    """
    request.answer_paths(run)
    directory = request.directory(run)
    if not _works_on(directory, request):
        if is_alive(directory):
            stop_and_wait([directory])
        write_request(run, request)
    arguments = ["-m", "workbench.evaluation", str(run.directory), str(directory / REQUEST)]
    return start_child(arguments, settings, directory / "log.txt")


def begin(directory: Path) -> ProgressWriter:
    """Clear away what was said to and by earlier processes, and say the first word; only with the lock."""
    (directory / PROGRESS).unlink(missing_ok=True)
    if _changed_ns(directory / STOP) < _changed_ns(directory / REQUEST):
        (directory / STOP).unlink(missing_ok=True)
    progress = ProgressWriter(directory / PROGRESS)
    progress.enter(Progress().words)
    return progress


def watch(directory: Path, child: subprocess.Popen[bytes]) -> Iterator[Progress]:
    """Yield how far an evaluation is, a few times a second, until its last word: also when another took over."""
    asked_ns = _changed_ns(directory / REQUEST)
    while True:
        # Look at the process first: one that ends in between has then already said its last word.
        alive = child.poll() is None or is_alive(directory)
        progress = _said(directory) or Progress()
        if _changed_ns(directory / REQUEST) != asked_ns:
            yield Progress("", state="stopped")
            return
        if progress.state == "running" and not alive:
            progress = _lost(directory)
        yield progress
        if progress.state != "running" and not alive:
            return
        time.sleep(POLL_SECONDS)


def look(directory: Path) -> Progress | None:
    """Return how far an evaluation is, also one that somebody else started; ``None`` where none ever was."""
    progress = _said(directory)
    if progress and progress.state != "running":
        return progress  # the quick way, for hundreds of runs
    # The process first, as above.
    alive = is_alive(directory)
    progress = _said(directory)
    if alive:
        return progress or Progress()
    request_path = directory / REQUEST
    if progress is None and request_path.exists():
        age_seconds = time.time() - request_path.stat().st_mtime
        return Progress() if age_seconds < STARTING_SECONDS else _lost(directory)
    return _lost(directory) if progress and progress.state == "running" else progress


def request_stop(directory: Path) -> None:
    """Ask an evaluation to stop; what was answered is kept."""
    (directory / STOP).touch()


def cancel(run: Run, request: EvaluationRequest) -> None:
    """Stop an evaluation because the person wants that: the one after training does not come back either."""
    if request.data is None:
        run.evaluation_due_path.unlink(missing_ok=True)
    request_stop(request.directory(run))


def running(runs: Iterable[Run]) -> list[Path]:
    """Return the folders of the evaluations that run or are about to, of these runs."""
    found = (path.parent for run in runs for path in run.directory.glob(f"evaluations/*/{REQUEST}"))
    return [folder for folder in found if (now := look(folder)) and now.state == "running"]


def stop_and_wait(directories: Iterable[Path]) -> None:
    """Ask evaluations to stop, and wait a little until they have gone and given their memory back."""
    left = list(directories)
    for directory in left:
        request_stop(directory)
    deadline = time.monotonic() + STOPPING_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(WAITING_SECONDS)
        left = [directory for directory in left if is_alive(directory)]


def memory_bytes(runs: Iterable[Run]) -> int:
    """Return the memory that evaluations of these runs hold now, which they would give back."""
    requests = {str(directory / REQUEST) for directory in running(runs)}
    if not requests:
        return 0
    processes = psutil.process_iter(["cmdline", "memory_info"])
    return sum(
        process.info["memory_info"].rss
        for process in processes
        if process.info["memory_info"] and requests & set(process.info["cmdline"] or ())
    )


def _works_on(directory: Path, request: EvaluationRequest) -> bool:
    """Say whether a process answers this very request and was not asked to stop."""
    stopping = (directory / STOP).exists()
    return is_alive(directory) and not stopping and read_request(directory / REQUEST) == request


def _said(directory: Path) -> Progress | None:
    """Return the newest word on the present request; what was said before it is about an earlier one."""
    path = directory / PROGRESS
    is_earlier = _changed_ns(path) < _changed_ns(directory / REQUEST)
    return None if is_earlier else read_progress(path)


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _lost(directory: Path) -> Progress:
    hint = f"Start it again: what was answered is kept. The log is {directory / 'log.txt'}."
    return Progress("", state="failed", message=LOST, hint=hint)
