"""Answer one request, and turn whatever happens into the last line of ``progress.jsonl``."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.child_progress import LOCK
from workbench.downloads import leave
from workbench.errors import StopRequested
from workbench.evaluation.process import STOP, WORDS, begin
from workbench.evaluation.request import read_request
from workbench.failures import explain
from workbench.processes import keep_niceness
from workbench.runs.store import open_run
from workbench.settings import Settings

LOCK_SECONDS = 5  # somebody may just be looking whether we live


def main(run_dir: Path, request_path: Path) -> int:
    """Return 0 when everything was answered or the person stopped it, 1 when it failed."""
    directory = request_path.parent
    while True:
        try:
            with FileLock(directory / LOCK, timeout=LOCK_SECONDS):
                return _work(run_dir, request_path)
        except Timeout:
            if not (directory / STOP).exists():  # another process answers for this data
                return 0
            # It was asked to leave, and loads a model first: what we were started for comes afterwards.


def _work(run_dir: Path, request_path: Path) -> int:
    directory = request_path.parent
    progress = begin(directory)
    try:
        # Heavy: a failing import is told like any failure.
        from workbench.evaluation.job import evaluate

        stop_path = directory / STOP
        run, request = open_run(run_dir), read_request(request_path)
        evaluate(run, request, Settings.from_environment(), progress, stop_path.exists)
        progress.end("finished")
    except StopRequested:
        progress.end("stopped")
    except BaseException as error:  # the process boundary: nothing may be swallowed or lost
        traceback.print_exc()
        failure = explain(error, "It", WORDS)
        progress.end("failed", failure.message, failure.hint)
        return 1
    return 0


if __name__ == "__main__":
    keep_niceness()
    leave(main(Path(sys.argv[1]), Path(sys.argv[2])))
