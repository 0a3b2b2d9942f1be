"""A new run made of an old one: it goes on with what that one learned, or begins again with some settings changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.config import build_config, chosen_settings
from workbench.errors import WorkbenchError
from workbench.models.sources import source_of
from workbench.presets import methods
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.store import Run, sibling
from workbench.services import Services


def continue_run(services: Services, run: Run, epochs: float, name: str = "") -> Run:
    """Train what a run learned for more epochs on the same data, as a new run with the same settings.

    Raises:
        WorkbenchError: It has no checkpoint, its method cannot, or its data is gone.
    """
    if not (method := methods()[run.config.method]).continues:
        raise WorkbenchError(
            f"{method.label} plans its whole run in advance, so it cannot be continued.",
            "Start a new run with more epochs.",
        )
    if newest_checkpoint(run.checkpoints_dir) is None:
        raise WorkbenchError(
            f'"{run.name}" has no checkpoint to continue from.', "Start a new run instead."
        )
    changes = {"epochs": epochs, "max_steps": None}
    return _start_copy(services, run, changes, name or f"{run.name}, continued", continues=True)


def start_copy(services: Services, run: Run, changes: Mapping[str, Any], name: str = "") -> Run:
    """Start a run again from its beginning, with some settings changed.

    One that went on from another run goes on from it again, unless what is tuned or how is another now.

    Raises:
        WorkbenchError: The settings do not work, its data is gone, or the run it went on from.
    """
    name = name or f"{run.name}, again"
    if not run.continues or changes.keys() & {"model", "method"}:
        return _start_copy(services, run, changes, name, continues=False)
    origin = sibling(run, str(run.parent))
    if newest_checkpoint(origin.checkpoints_dir) is None:
        raise WorkbenchError(
            f'"{origin.name}", which it went on from, has no checkpoint any more.',
            "Duplicate it with changes instead, which begins with the model before any training.",
        )
    return _start_copy(services, run, changes, name, continues=True, parent=origin)


def _start_copy(
    services: Services,
    run: Run,
    changes: Mapping[str, Any],
    name: str,
    *,
    continues: bool,
    parent: Run | None = None,
) -> Run:
    values = {**chosen_settings(run.config, run.reasons), **changes}
    config = build_config(values)
    source = source_of(config)
    services.models.check(source)
    services.ensure_known(source)
    validation_id = run.data.validation.id if run.data.validation else None
    data = services.choose_data({part.id: part.weight for part in run.data.parts}, validation_id)
    plan = services.plan(config, data)
    return services.start(plan, data, name, parent=parent or run, continues=continues)
