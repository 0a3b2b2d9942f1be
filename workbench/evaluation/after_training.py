"""``python -m workbench.evaluation.after_training``: evaluate the runs that are due, while nothing else has the computer.

One of these works at a time. It gives way to whatever loads a model because a person wants it: what was answered is
kept, and it goes on afterwards; when a run comes it leaves, and the end of that run starts the next one. A run is due
no more once it was evaluated, cannot be, or the person stopped that.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from dataclasses import dataclass

from filelock import Timeout

from workbench.child_progress import Progress
from workbench.errors import WorkbenchError
from workbench.evaluation.process import request_stop, running, start, watch
from workbench.evaluation.request import EvaluationRequest
from workbench.export.history import exports_with_a_model
from workbench.models.sources import source_of
from workbench.models.store import ModelStore
from workbench.processes import go_last
from workbench.runs.store import Run, RunStore
from workbench.runs.strength import kept_strength
from workbench.runs.supervisor import Supervisor
from workbench.settings import Settings

NICENESS = 10  # whoever chats meanwhile goes first
WAITING_SECONDS = 2
PAUSE_SECONDS = 30  # what an evaluation was stopped for can be seen by then


@dataclass(frozen=True)
class Workspace:
    """What is looked at to know whether the computer is free."""

    settings: Settings
    store: RunStore
    supervisor: Supervisor

    def is_used(self, *, beside: Run | None = None) -> bool:
        """Say whether a run trains or waits, or an evaluation, export or test drive has loaded a model.

        Args:
            beside: Leave out the evaluation of this run after its training.
        """
        own = _request(beside).directory(beside) if beside else None
        return (
            not self.supervisor.is_idle()
            or self.supervisor.is_driving()
            or any(directory != own for directory in running(self.store.all()))
            or bool(exports_with_a_model(self.store.root_dir))
        )


def main() -> None:
    """Evaluate what is due, as the last of all programs."""
    go_last(NICENESS)
    evaluate_what_is_due(Settings.from_environment())


def evaluate_what_is_due(settings: Settings) -> None:
    """Evaluate the runs that are due, the earliest first."""
    store = RunStore(settings)
    workspace = Workspace(settings, store, Supervisor(settings, store))
    with contextlib.suppress(Timeout):  # another one works through the same runs
        # Who finds the lock taken relies on us: after letting go of it we look again.
        while workspace.supervisor.is_idle() and (due := due_runs(store)):
            with workspace.supervisor.evaluating_lock():
                if workspace.is_used():
                    time.sleep(WAITING_SECONDS)
                else:
                    _evaluate(due[0], workspace)


def due_runs(store: RunStore) -> list[Run]:
    """Return the runs that are to be evaluated, the earliest first."""
    return [run for run in reversed(store.all()) if run.evaluation_due_path.exists()]


def _evaluate(run: Run, workspace: Workspace) -> None:
    """Evaluate one run on the rows it held back; it stays due if something else came."""
    try:
        last = _follow(run, workspace)
    except (WorkbenchError, OSError):  # its model is gone, or the disk is full
        traceback.print_exc()
    else:
        if last.state == "stopped":
            if run.evaluation_due_path.exists():  # a person who stops it takes it off the list
                time.sleep(PAUSE_SECONDS)
            return
    run.evaluation_due_path.unlink(missing_ok=True)


def _follow(run: Run, workspace: Workspace) -> Progress:
    """Ask both models, or stop when something else needs the computer; return the last word."""
    source = source_of(run.config)
    if not ModelStore(workspace.settings).is_here(source):  # nobody asked for its download
        raise WorkbenchError(f"{source.label} is not on this computer any more.")
    directory, last = _request(run).directory(run), Progress()
    child = start(run, _request(run), workspace.settings)
    for last in watch(directory, child):
        if last.state == "running" and workspace.is_used(beside=run):
            request_stop(directory)
    return last


def _request(run: Run) -> EvaluationRequest:
    return EvaluationRequest(limit=run.config.evaluate_after, strength=kept_strength(run))


if __name__ == "__main__":
    main()
