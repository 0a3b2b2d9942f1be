"""One model in memory at a time: what a person asked for is not joined by a second."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from workbench.child_progress import is_alive
from workbench.errors import WorkbenchError
from workbench.evaluation import process as evaluating
from workbench.export.history import exports_with_a_model
from workbench.services import Services


def check_alone(services: Services, but: Collection[Path] = ()) -> None:
    """Refuse a second model: two at once would take twice the memory.

    Args:
        services: What runs.
        but: Folders of evaluations that may run.

    Raises:
        WorkbenchError: A run trains, a model is exported, or somebody had a model asked.
    """
    services.supervisor.check_free()
    for export in exports_with_a_model(services.runs.root_dir):
        raise WorkbenchError(
            f"Another model is being exported ({export.request.name}).",
            "Wait until it is done, or cancel it.",
        )
    # What is evaluated by itself after training gives way.
    asked_for = (run for run in services.runs.all() if not run.evaluation_due_path.exists())
    if set(evaluating.running(asked_for)) - set(but):
        raise WorkbenchError(
            "An evaluation runs just now, and needs the memory.",
            "Wait until it is done, or stop it; what was answered is kept.",
        )


def make_room_to_ask(services: Services, *directories: Path) -> None:
    """Free the computer for evaluations, given by their folders; one that runs already goes on.

    Raises:
        WorkbenchError: As of ``check_alone``.
    """
    check_alone(services, directories)
    if not any(is_alive(directory) for directory in directories):
        services.free_the_computer()
