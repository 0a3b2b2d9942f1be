"""The exports of a run: how far one is, what is there, ending and deleting it. Whoever started it. No torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from workbench.child_progress import Progress, is_alive, read_progress
from workbench.errors import WorkbenchError
from workbench.export.process import (
    PROCESS,
    PROGRESS,
    REQUEST,
    STOP,
    ExportResult,
    end,
    last_word,
    read_result,
    remove,
)
from workbench.export.request import NEEDS_MODEL, ExportRequest, read_request, sums_path
from workbench.runs.store import UNREADABLE, Run, read_json

STARTING_SECONDS = 15  # until a new process holds its lock, on a busy computer


@dataclass(frozen=True)
class RunExport:
    """One export of a run.

    Attributes:
        directory: Where its process keeps its notes; its name is the id.
        request: What was asked for.
        progress: How far it is, or how it ended.
        result: What it made; ``None`` until then, and when that is not there any more.
    """

    directory: Path
    request: ExportRequest
    progress: Progress
    result: ExportResult | None

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def is_running(self) -> bool:
        return self.progress.state == "running"

    @property
    def is_stopping(self) -> bool:
        return self.is_running and (self.directory / STOP).exists()


def exports_of(run: Run) -> list[RunExport]:
    """Return a run's exports, the newest first; one that is being deleted is left out."""
    exports: list[RunExport] = []
    taken: set[Path] = set()
    for export in _read_all(run.directory.glob(f"exports/*/{REQUEST}")):
        path = export.request.out_path
        if export.result and not export.request.repository:
            # What is there was made by the newest; an older one's was removed by hand, and its place taken.
            export = replace(export, result=None) if path in taken else export
            taken.add(path)
        exports.append(export)
    return exports


def active_exports(runs_dir: Path) -> list[RunExport]:
    """Return the exports that are being made now, of any run."""
    found = (
        path
        for path in runs_dir.glob(f"*/exports/*/{REQUEST}")
        if is_alive(path.parent) or _is_starting(path.parent)
    )
    return [export for export in _read_all(found) if export.is_running]


def exports_with_a_model(runs_dir: Path) -> list[RunExport]:
    """Return those of them that have a model in memory."""
    return [one for one in active_exports(runs_dir) if one.request.kind in NEEDS_MODEL]


def results_on_disk(run: Run) -> list[ExportResult]:
    """Return what a run's exports made and is still on this computer."""
    return [e.result for e in exports_of(run) if e.result and not e.request.repository]


def find_export(run: Run, export_id: str) -> RunExport:
    """Return one of a run's exports.

    Raises:
        WorkbenchError: There is no such export.
    """
    for export in exports_of(run):
        if export.id == export_id:
            return export
    raise WorkbenchError("This export is not there any more.")


def check_none_runs(run: Run) -> None:
    """Refuse what must wait for a run's exports.

    Raises:
        WorkbenchError: One is being made.
    """
    for export in exports_of(run):
        if export.is_running:
            raise WorkbenchError(
                f"“{run.name}” is being exported just now ({export.request.name}).",
                "Wait until that is done, or cancel it first.",
            )


def stop_export(export: RunExport) -> None:
    """End an export, gently at first; returns when it has ended and nothing half-written is left.

    A process that cannot be seen from here, of another container say, is only asked.
    """
    (export.directory / STOP).touch()
    process = _process(export.directory)
    if process is not None:
        end(export.directory, process)
    _look(export.directory, export.request)


def delete_export(export: RunExport) -> None:
    """Delete what an export made, and its notes.

    Raises:
        WorkbenchError: It is being made.
    """
    if export.is_running:
        raise WorkbenchError("This export is being made.", "Cancel it first.")
    if export.result:  # else there is nothing of it, or a newer one has its place
        remove(export.request.out_path)
        sums_path(export.request.out_path).unlink(missing_ok=True)
    remove(export.directory)


def _read_all(paths: Iterator[Path]) -> Iterator[RunExport]:
    for path in sorted(paths, key=lambda path: path.parent.name, reverse=True):
        try:
            yield _read(path.parent)
        except UNREADABLE:
            continue  # deleted meanwhile, or made by a newer version


def _read(directory: Path) -> RunExport:
    request = read_request(directory / REQUEST)
    progress = _look(directory, request)
    is_there = progress.state == "finished" and (
        bool(request.repository) or request.out_path.exists()
    )
    result = read_result(directory) if is_there else None
    return RunExport(directory, request, progress, result)


def _look(directory: Path, request: ExportRequest) -> Progress:
    # In this order: one that begins or ends in between is not taken for lost.
    has_begun = (directory / PROGRESS).exists()
    alive = is_alive(directory)
    progress = read_progress(directory / PROGRESS) or Progress()
    if alive or progress.state != "running" or (not has_begun and _is_starting(directory)):
        return progress
    remove(request.partial_path)
    return last_word(directory, request)


def _is_starting(directory: Path) -> bool:
    """Say whether an export has begun so lately that its process may not hold its lock yet."""
    return time.time() - (directory / REQUEST).stat().st_mtime < STARTING_SECONDS


def _process(directory: Path) -> psutil.Process | None:
    """Return the process of an export, to end it; a zombie or another process with its pid does not count."""
    try:
        process = psutil.Process(read_json(directory / PROCESS)["pid"])
        ours = str(directory / REQUEST) in process.cmdline()
        return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError, ValueError, KeyError, TypeError):
        return None
