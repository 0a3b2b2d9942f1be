"""Which runs a person can choose to ask, evaluate or compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.runs.checkpoints import checkpoint_instead
from workbench.runs.store import Run
from workbench.services import Services
from workbench.ui.views import run_label


def choice_to_ask(services: Services, chosen: str | None) -> Any:
    """List the runs that can be asked now; leave a choice that still is, else take the first."""
    choices = runs_to_ask(services)
    ids = [run_id for _, run_id in choices]
    if chosen in ids:
        return gr.Dropdown(choices)  # by now another one may be chosen
    return gr.Dropdown(choices, value=next(iter(ids), None))


def run_to_ask(services: Services, chosen: str | None) -> Run:
    """Return the chosen run, or the one that will be when the list of a tab just opened has come.

    Raises:
        WorkbenchError: There is no run, or the chosen one is gone.
    """
    if not chosen:
        chosen = next((run_id for _, run_id in runs_to_ask(services)), None)
    if not chosen:
        raise WorkbenchError("There is no tuned model yet.", "Train one in the Train tab first.")
    return services.runs.get(chosen)


def finished_runs(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every run that saved a model, the newest first."""
    return _with_a_model(services.runs.all())


def runs_to_ask(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every run that can be asked: those that saved a model, then those with a checkpoint.

    A run that trains or waits is not among the latter: its checkpoints come and go.
    """
    runs, active = services.runs.all(), services.supervisor.active_run()
    unfinished = [
        (f"{run_label(run)}: checkpoint of step {step:,}, not finished", run.id)
        for run in runs
        if run != active and not run.waiting_path.exists()
        if (step := checkpoint_instead(run)) is not None
    ]
    return [*_with_a_model(runs), *unfinished]


def _with_a_model(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return [(run_label(run), run.id) for run in runs if run.model_dir.is_dir()]
