"""Train one run, and turn whatever happens into its last event."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from workbench.downloads import leave
from workbench.errors import StopRequested, WorkbenchError
from workbench.processes import start_child
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.events import Event, FinishedEvent, PhaseEvent, append_event, end_torn_line
from workbench.runs.store import Run, open_run, write_json
from workbench.settings import Settings, place_in_team
from workbench.training.failures import explain_failure

DEVICE_SECONDS = 60  # how long the process before may take to give its memory back


class StopFlag:
    """Whether the person asked to stop: by the run's ``stop`` file, or by SIGTERM."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signalled = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self._signalled.set())

    def __call__(self) -> bool:
        return self._signalled.is_set() or self._path.exists()


def main(run_dir: Path) -> int:
    """Return 0 when a model was saved or the person stopped the run, 1 when it failed."""
    run = open_run(run_dir)
    settings = Settings.from_environment()
    if place_in_team()[0]:
        return _help(run, settings)
    try:
        with FileLock(run.directory / ".process.lock", timeout=0):
            return _work(run, settings)
    except Timeout:  # another process has this very run, and speaks for it
        return 0
    finally:
        start_child(["-m", "workbench.runs", str(os.getpid())], settings, run.log_path)


def _help(run: Run, settings: Settings) -> int:
    """Be one of several processes that train together, but not the one that speaks for them and saves."""
    from workbench.training.job import train
    from workbench.training.team import Team

    with contextlib.suppress(StopRequested):
        train(run, settings, lambda event: None, StopFlag(run.stop_path), Team.join())
    return 0


def _work(run: Run, settings: Settings) -> int:
    # The one who started us writes the same; it may have been killed in between.
    me = psutil.Process()
    write_json(run.process_path, {"pid": me.pid, "create_time": me.create_time()})
    run.waiting_path.unlink(missing_ok=True)
    end_torn_line(run.events_path)

    def emit(event: Event) -> None:
        append_event(run.events_path, event)

    try:
        emit(PhaseEvent(phase="starting"))
        with _device(run):
            # Heavy: a failing import is told like any failure.
            from workbench.training.job import train
            from workbench.training.team import Team

            emit(train(run, settings, emit, StopFlag(run.stop_path), Team.join()))
    except StopRequested:
        emit(_stopped_early(run))
    except BaseException as error:  # the process boundary: nothing may be swallowed or lost
        traceback.print_exc()
        model_saved = run.model_dir.is_dir()  # by an earlier process of this run
        _emit_last(run.events_path, replace(explain_failure(error), model_saved=model_saved))
        return 1
    return 0


def _stopped_early(run: Run) -> FinishedEvent:
    """Return the last word of a process that took no step; an earlier one of the run may have."""
    checkpoint = newest_checkpoint(run.checkpoints_dir)
    message = "Stopped before training began."
    if checkpoint:
        message = f"Stopped before training went on. What it learned in {checkpoint.step:,} steps is kept."
    return FinishedEvent(outcome="stopped", message=message, model_saved=run.model_dir.is_dir())


@contextlib.contextmanager
def _device(run: Run) -> Iterator[None]:
    """Hold the device. The system gives the lock back when a process dies, however it dies."""
    try:
        held = FileLock(run.directory.parent / ".device.lock").acquire(timeout=DEVICE_SECONDS)
    except Timeout as error:
        raise WorkbenchError(
            "Another run is training in this workspace.", "Resume this one when it has ended."
        ) from error
    with held:
        yield


def _emit_last(path: Path, event: Event) -> None:
    """Write the last event; when the disk is full it may take a moment until there is room."""
    for _ in range(5):
        try:
            end_torn_line(path)  # it may be the very line that there was no room for
            append_event(path, event)
            return
        except OSError:
            traceback.print_exc()
            time.sleep(1)


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
