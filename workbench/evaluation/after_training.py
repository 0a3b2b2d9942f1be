"""``python -m workbench.evaluation.after_training``: evaluate the runs that are due, while no run trains or waits.

One of these works at a time, and leaves as soon as a run comes: what was answered is kept, and the end of that
run starts the next one. A run is due no more once it was evaluated, or the person stopped that.
"""

from __future__ import annotations

import contextlib
import os
import traceback

from filelock import FileLock, Timeout

from workbench.child_progress import Progress
from workbench.errors import WorkbenchError
from workbench.evaluation.process import request_stop, start, watch
from workbench.evaluation.request import EvaluationRequest
from workbench.runs.store import Run, RunStore
from workbench.runs.supervisor import Supervisor
from workbench.settings import Settings, ensure_dir

LEAVING_SECONDS = 30  # until one of these that gave way has left
NICENESS = 10  # whoever chats meanwhile goes first


def main() -> None:
    """Evaluate what is due, the earliest run first."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    settings = Settings.from_environment()
    store = RunStore(settings)
    supervisor = Supervisor(settings, store)
    lock = FileLock(ensure_dir(store.root_dir) / ".evaluating.lock", timeout=LEAVING_SECONDS)
    with contextlib.suppress(Timeout), lock:  # another one works through the same runs
        while supervisor.is_idle() and (due := due_runs(store)):
            if not _evaluate(due[0], supervisor, settings):
                return


def due_runs(store: RunStore) -> list[Run]:
    """Return the runs that are to be evaluated, the earliest first."""
    return [run for run in reversed(store.all()) if run.evaluation_due_path.exists()]


def _evaluate(run: Run, supervisor: Supervisor, settings: Settings) -> bool:
    """Evaluate one run on the rows it held back; say whether the next one may follow."""
    try:
        last = _follow(run, supervisor, settings)
    except (WorkbenchError, OSError):  # its model is gone, or the disk is full
        traceback.print_exc()
    else:
        if last.state == "stopped" and run.evaluation_due_path.exists():
            return False  # it gave way; a person who stops it takes it off the list
    run.evaluation_due_path.unlink(missing_ok=True)
    return True


def _follow(run: Run, supervisor: Supervisor, settings: Settings) -> Progress:
    """Ask both models, or stop when a run comes; return the last word."""
    request = EvaluationRequest(limit=run.config.evaluate_after)
    directory, last = request.directory(run), Progress()
    child = start(run, request, settings)
    for last in watch(directory, child):
        if last.state == "running" and not supervisor.is_idle():
            request_stop(directory)
    return last


if __name__ == "__main__":
    main()
