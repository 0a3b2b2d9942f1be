"""Train one run, and turn whatever happens into its last event."""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from workbench.errors import StopRequested
from workbench.runs.events import Event, FinishedEvent, append_event
from workbench.runs.store import open_run
from workbench.settings import Settings
from workbench.training.failures import explain_failure


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

    def emit(event: Event) -> None:
        append_event(run.events_path, event)

    try:
        from workbench.training.job import train  # heavy: a failing import is told like any failure

        emit(train(run, Settings.from_environment(), emit, StopFlag(run.stop_path)))
    except StopRequested:
        emit(FinishedEvent(outcome="stopped", message="Stopped before training began."))
    except BaseException as error:  # the process boundary: nothing may be swallowed or lost
        traceback.print_exc()
        message, hint = explain_failure(error)
        _emit_last(run.events_path, FinishedEvent(outcome="failed", message=message, hint=hint))
        return 1
    return 0


def _emit_last(path: Path, event: Event) -> None:
    """Write the last event; when the disk is full it may take a moment until there is room."""
    for _ in range(5):
        try:
            append_event(path, event)
            return
        except OSError:
            traceback.print_exc()
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
