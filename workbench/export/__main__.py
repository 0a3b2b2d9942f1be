"""Export one run, and turn whatever happens into the last line of ``progress.jsonl``."""

from __future__ import annotations

import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from workbench.child_progress import LOCK, ProgressWriter
from workbench.downloads import leave
from workbench.errors import StopRequested
from workbench.export.job import Export
from workbench.export.process import PROGRESS, RESULT, STOP, remove
from workbench.export.request import ExportRequest, read_request
from workbench.failures import Words, explain
from workbench.runs.store import open_run, write_json
from workbench.settings import Settings

WORDS: Words = {
    "memory": ("The computer ran out of memory.", "Close other programs, or export the adapter."),
    "disk": (
        "The disk is full; nothing was kept of the export.",
        "Free some space, or choose a path on another disk.",
    ),
}


def main(run_dir: Path, request_path: Path) -> int:
    """Return 0 when it was exported or the person stopped it, 1 when it failed."""
    with FileLock(request_path.parent / LOCK):
        return _export(run_dir, request_path)


def _export(run_dir: Path, request_path: Path) -> int:
    directory = request_path.parent
    progress = ProgressWriter(directory / PROGRESS)
    try:
        request = read_request(request_path)
        _work(run_dir, request, directory, progress)
        progress.end("finished")
    except StopRequested:
        progress.end("stopped")
    except BaseException as error:  # the process boundary: nothing may be swallowed or lost
        traceback.print_exc()
        failure = explain(error, "It", WORDS)
        progress.end("failed", failure.message, failure.hint)
        return 1
    return 0


def _work(run_dir: Path, request: ExportRequest, directory: Path, progress: ProgressWriter) -> None:
    stop_path = directory / STOP
    settings = Settings.from_environment()
    try:
        job = Export(open_run(run_dir), request, settings, progress, stop_path.exists)
        job.work(lambda result: write_json(directory / RESULT, asdict(result)))
    finally:
        remove(request.partial_path)  # it has another name when all went well


if __name__ == "__main__":
    leave(main(Path(sys.argv[1]), Path(sys.argv[2])))
