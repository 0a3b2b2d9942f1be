"""Duplicate with changes: fill the form with a past run's settings and data, so that one thing can be changed."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from workbench.runs.store import Run
from workbench.services import Services
from workbench.starting_points import RUN
from workbench.ui.configure_choices import preset_choices
from workbench.ui.configure_tab import ConfigureTab
from workbench.ui.data_check import dataset_choices
from workbench.ui.data_mix import HELD_BACK, fill_mix
from workbench.ui.form import preset_values
from workbench.ui.guard import PRIVATE, user_errors


def wire_duplicating(
    services: Services,
    button: gr.Button,
    chosen: gr.Textbox,
    tabs: gr.Tabs,
    mix: list[Any],
    configure: ConfigureTab,
) -> None:
    """Let a button open the Configure tab with all that a run was started with.

    Args:
        services: Where runs and datasets are.
        button: Opens it.
        chosen: The run, by its id.
        tabs: Of the page.
        mix: What ``build_mix_view`` returned.
        configure: The form.
    """

    @user_errors
    def duplicate(run_id: str) -> list[Any]:
        run = services.runs.get(run_id)
        point = RUN + run.id
        return [
            gr.Tabs(selected="configure"),
            gr.Dropdown(preset_choices(services, point), value=point),
            *_data_values(services, run),
            *preset_values(services.starting_points.settings(point), configure.names),
        ]

    filled = [tabs, configure.preset, *mix, *configure.settings]
    button.click(duplicate, chosen, filled, **PRIVATE)


def _data_values(services: Services, run: Run) -> list[Any]:
    """Return a run's datasets in the order of the mix; nothing changes where one of them is gone."""
    choices = dataset_choices(services)
    there = {dataset_id for _, dataset_id in choices}
    parts, validation = run.data.parts, run.data.validation
    gone = [part.name for part in run.data.datasets if part.id not in there]
    if gone:
        gr.Info(
            f"Its settings are filled in. Its data is gone ({escape(', '.join(gone))}): choose what to learn from "
            "in 1. Data."
        )
        return [gr.skip()] * 4
    first, *more = (part.id for part in parts)
    weights = {part.id: part.weight for part in parts}
    chosen = validation.id if validation else HELD_BACK
    return [
        gr.Dropdown(choices, value=first),
        *fill_mix(services, first, more, weights, chosen),
    ]
