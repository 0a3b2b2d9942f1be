"""Start, watch and stop the process that exports. No torch: page and terminal use it.

::

    runs/<id>/exports/<time>-<kind>/request.json   what was asked for
                                    progress.jsonl how far it is, and how it ended
                                    result.json    files with their sums, what was checked
                                    process.json   pid and create time, to kill it if need be
                                    .lock          its process holds it while it lives
                                    stop log.txt
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from workbench.child_progress import Progress, read_progress
from workbench.export.hub import hub_address
from workbench.export.request import ExportRequest, Kind, write_request
from workbench.export.sums import ExportedFile
from workbench.processes import start_child
from workbench.runs.store import Run, read_json, write_json
from workbench.runs.strength import AS_TRAINED
from workbench.settings import Settings, ensure_dir

PROGRESS, RESULT, STOP = "progress.jsonl", "result.json", "stop"
REQUEST, PROCESS = "request.json", "process.json"
POLL_SECONDS = 0.2
UPLOADING = "Uploading"  # the part of the work after which something may be on the Hub
PATIENCE_SECONDS = 20.0  # how long a process may take to stop by itself
LOST = (
    "The process that exported is gone and never said why. Most often memory or the disk ran out."
)
ENDED_UPLOAD = "The upload did not stop when it was asked to, so its process was ended."


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote.

    Attributes:
        kind: What became of the run.
        path: Where it is: a path, or an address on the Hugging Face Hub.
        files: Every file with its size and SHA-256; of one file alone, that.
        usage: How to use it, in lines to copy.
        checks: What was verified, as numbers by name.
        notes: What the person should know.
        strength: How much of the adapter is in it; 1 is as trained.
    """

    kind: Kind
    path: str
    files: tuple[ExportedFile, ...]
    usage: tuple[str, ...]
    checks: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    strength: float = AS_TRAINED

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass
class ExportProcess:
    """A process that exports, and where it tells how far it is."""

    child: subprocess.Popen[bytes]
    directory: Path
    request: ExportRequest

    def watch(self) -> Iterator[Progress]:
        """Yield how far it is, a few times a second, until its last word; nothing half-written is left then."""
        while True:
            # Look at the process first: one that ends in between has then already said its last word.
            alive = self.child.poll() is None
            if not alive:
                self._clean()
                yield last_word(self.directory, self.request)
                return
            progress = read_progress(self.directory / PROGRESS) or Progress()
            if progress.state == "running":
                yield progress
            time.sleep(POLL_SECONDS)

    def stop(self) -> Progress:
        """End it, gently at first, and return its last word: it may have been done. Nothing half-written is left."""
        end(self.directory, self.child)
        self._clean()
        return last_word(self.directory, self.request)

    def _clean(self) -> None:
        remove(self.request.partial_path)


def make_request(kind: Kind, out: Path, **choices: Any) -> ExportRequest:
    """Return a request whose temporary name is its own, so that two never meet.

    Args:
        kind: What to make.
        out: Where to.
        **choices: The other fields of ``ExportRequest``.
    """
    # Not resolved: a link at the end of the path is something that is there already.
    out = Path(out).expanduser()
    out = out.parent.resolve() / out.name
    partial = out.with_name(f".{out.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    return ExportRequest(kind, str(out), str(partial), **choices)


def start(run: Run, request: ExportRequest, settings: Settings, token: str = "") -> ExportProcess:
    """Start an export that was checked.

    Args:
        run: The run.
        request: What to export.
        settings: Where the workspace is.
        token: Access token for an upload; only the process's environment holds it.
    """
    # Exports are listed by it, so it is fine enough to be in order.
    stamp = f"{datetime.now().astimezone():%Y%m%d-%H%M%S-%f}"
    name = f"{stamp}-{request.kind}-{uuid.uuid4().hex[:4]}"
    directory = ensure_dir(run.directory / "exports" / name)
    path = write_request(directory, request)
    arguments = ["-m", "workbench.export", str(run.directory), str(path)]
    environment = {"HF_TOKEN": token} if token else {}
    log_path = directory / "log.txt"
    child = start_child(arguments, settings, log_path, environment=environment)
    # It has ended already, or the disk is full: it can still be seen by its lock and asked to stop.
    with contextlib.suppress(psutil.NoSuchProcess, OSError):
        created = psutil.Process(child.pid).create_time()
        write_json(directory / PROCESS, {"pid": child.pid, "create_time": created})
    return ExportProcess(child, directory, request)


def end(directory: Path, process: subprocess.Popen[bytes] | psutil.Process) -> None:
    """End the process of an export, gently at first."""
    (directory / STOP).touch()
    try:
        process.wait(PATIENCE_SECONDS)
    except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
        process.kill()
        process.wait()


def last_word(directory: Path, request: ExportRequest) -> Progress:
    """Return how an export ended whose process is gone, also where that could not say it itself."""
    progress = read_progress(directory / PROGRESS) or Progress()
    if progress.state != "running":
        return progress
    was_stopped = (directory / STOP).exists()
    if request.repository and progress.words == UPLOADING:
        message = ENDED_UPLOAD if was_stopped else LOST
        hint = f"It may have arrived, or not: look at {hub_address(request.repository)}."
        return Progress("", state="failed", message=message, hint=hint)
    if was_stopped:
        return Progress("", state="stopped")
    hint = f"Close other programs, free some space, and export again. The log is {directory / 'log.txt'}."
    return Progress("", state="failed", message=LOST, hint=hint)


def read_result(directory: Path) -> ExportResult:
    """Read what a finished export wrote."""
    record = read_json(directory / RESULT)
    known = {item.name for item in fields(ExportResult)}
    record["files"] = tuple(ExportedFile(**file) for file in record["files"])
    for name in ("usage", "notes"):
        record[name] = tuple(record[name])
    return ExportResult(**{name: value for name, value in record.items() if name in known})


def remove(path: Path) -> None:
    """Remove what was half-written, a file or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
