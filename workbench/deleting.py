"""What may be deleted when, and what goes with it: a run, a dataset, a model, a download."""

from __future__ import annotations

from contextlib import suppress

from filelock import FileLock, Timeout

from workbench.data.store import dataset_id_of
from workbench.errors import WorkbenchError
from workbench.evaluation import process as evaluating
from workbench.export.history import check_none_runs
from workbench.models.sources import ModelSource, source_of
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.store import Run
from workbench.services import Services


def delete_run(services: Services, run: Run) -> None:
    """Remove a run and all it saved.

    Raises:
        WorkbenchError: It has not ended, or is being exported.
    """
    if (snapshot := services.supervisor.summary(run)).is_active:
        raise WorkbenchError(
            f'"{run.name}" has not ended ({snapshot.state}).', "Stop it first, then delete it."
        )
    _check_none_begins_with(services, run)
    check_none_runs(run)
    if services.chat.run_id == run.id:
        services.chat.close()
    run.evaluation_due_path.unlink(missing_ok=True)  # else it would begin again
    evaluating.stop_and_wait(evaluating.running([run]))
    for report in services.settings.reports_dir.glob(f"*-{run.id}.html"):
        report.unlink(missing_ok=True)
    services.runs.delete(run)


def delete_dataset(services: Services, dataset_id: str) -> None:
    """Remove a dataset, unless a run needs it.

    Raises:
        WorkbenchError: It is a sample, not there, or a run is about to read it.
    """
    for run in services.runs.all():
        if dataset_id not in run.data.dataset_ids:
            continue
        snapshot = services.supervisor.summary(run)
        if snapshot.is_active:
            raise WorkbenchError(
                f"The run {run.name} needs this dataset ({snapshot.state}).",
                "Delete it when the run has ended.",
            )
    services.datasets.delete(dataset_id)
    rows_path = services.settings.good_answers_path
    # Whoever adds an answer just now has the lock, and makes another dataset of these rows.
    with suppress(Timeout), FileLock(f"{rows_path}.lock", timeout=0):
        if rows_path.exists() and dataset_id_of(rows_path, rows_path.name) == dataset_id:
            rows_path.unlink()  # what it was made of


def delete_model(services: Services, source: ModelSource) -> None:
    """Remove a model from this disk, unless a run, an evaluation, an export or a download needs it.

    Raises:
        WorkbenchError: It is in use, or not here.
    """
    active = services.supervisor.active_run()
    if active and _begins_with(active, source):
        raise WorkbenchError(f'"{active.name}" is training it.', "Delete it when that has ended.")
    for run in services.runs.all():
        if _begins_with(run, source):
            check_none_runs(run)
            if evaluating.running([run]):
                raise WorkbenchError(
                    f'"{run.name}" is being evaluated, which needs it.',
                    "Delete it when that has ended.",
                )
    services.close_helpers()
    services.models.delete(source)


def cancel_download(services: Services, source: ModelSource) -> None:
    """End a model's download in the background; a later one fetches the rest.

    Raises:
        WorkbenchError: It is a run that downloads it.
    """
    active = services.supervisor.active_run()
    if active and _begins_with(active, source):
        raise WorkbenchError(f'The run "{active.name}" needs it.', "Stop the run instead.")
    services.models.cancel(source)


def _begins_with(run: Run, source: ModelSource) -> bool:
    """Say whether a run tunes this model; the folder it has here has no capitals, an id may have some."""
    with suppress(WorkbenchError):  # a folder that is gone
        return source_of(run.config).slug == source.slug
    return False


def _check_none_begins_with(services: Services, run: Run) -> None:
    """Refuse while another run is still to begin with what this one learned.

    Raises:
        WorkbenchError: Names it.
    """
    for child in services.runs.all():
        if not (child.continues and child.parent == run.id):
            continue
        state = services.supervisor.summary(child).state
        if state != "finished" and newest_checkpoint(child.checkpoints_dir) is None:
            raise WorkbenchError(
                f'"{child.name}" ({state}) begins with what this one learned, and has no checkpoint of its own yet.',
                "Delete that one first, or let it get on.",
            )
