"""Runs tab, lower part: the loss of several runs in one chart, and their settings side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.runs.columns import ColumnsCache
from workbench.runs.side_by_side import FEWEST, MOST, distinct_names
from workbench.runs.store import Run
from workbench.services import Services
from workbench.ui.chart_panel import build_chart, build_view_choices
from workbench.ui.charts import comparison_figure
from workbench.ui.compare_views import (
    CHOOSE_MORE,
    comparison_html,
    key_html,
)
from workbench.ui.guard import FOLLOW, user_errors
from workbench.ui.runs_views import RunEntry
from workbench.ui.views import run_label

HEIGHT_PIXELS = 400
SHOWN = "shown"
TOP_PIXELS = 32  # for the buttons of the chart


@dataclass(frozen=True)
class Comparison:
    """The choice of runs, and what draws them.

    Attributes:
        runs: The ids of the runs compared.
        draw: Takes the values of ``inputs`` and returns those of ``outputs``.
    """

    runs: gr.Dropdown
    draw: Callable[..., list[Any]]
    inputs: list[Any]
    outputs: list[Any]


def build_comparison(services: Services) -> Comparison:
    """Lay it out and wire it."""
    runs = gr.Dropdown(
        [],
        label="Compare",
        info=CHOOSE_MORE,
        multiselect=True,
        max_choices=MOST,
        elem_id="runs-compare",
    )
    with gr.Column(visible=False, elem_id="runs-comparison") as panel:
        key = gr.HTML(apply_default_css=False, elem_id="runs-key")
        chart = build_chart("runs-chart", HEIGHT_PIXELS)
        with gr.Row(equal_height=True):
            choices = build_view_choices("runs-chart")
        table = gr.HTML(apply_default_css=False, elem_id="runs-side-by-side")
    columns = ColumnsCache()
    # Whether something is shown: to hide what is hidden costs a browser more than anything else.
    shown_now = gr.Textbox(visible="hidden")

    @user_errors
    def draw(
        run_ids: list[str] | None, was_shown: str, x: Any, weight: float, is_log: bool
    ) -> list[Any]:
        entries = [
            RunEntry(run, services.supervisor.snapshot(run))
            for run in existing_runs(services, run_ids or [])
        ]
        if len(entries) < FEWEST:
            hidden = [gr.Column(visible=False), ""] if was_shown else [gr.skip()] * 2
            return [*hidden, gr.skip(), gr.skip(), gr.skip()]
        names = distinct_names([entry.run for entry in entries])
        curves = [
            (name, columns.get(entry.run.id, entry.snapshot.steps), entry.snapshot.evaluations)
            for name, entry in zip(names, entries, strict=True)
        ]
        figure = comparison_figure(curves, x, weight, is_log)
        # Six runs make twelve lines of legend, which a chart has no room for.
        figure.update_layout(showlegend=False, margin_t=TOP_PIXELS)
        shown = [key_html(names), figure.to_json(), comparison_html(entries)]
        return [gr.Column(visible=True), SHOWN, *shown]

    inputs, outputs = [runs, shown_now, *choices], [panel, shown_now, key, chart, table]
    gr.on([component.change for component in (runs, *choices)], draw, inputs, outputs, **FOLLOW)
    return Comparison(runs, draw, inputs, outputs)


def existing_runs(services: Services, run_ids: Sequence[str]) -> list[Run]:
    """Return those of the runs that are still there, in their order; others were deleted meanwhile."""
    there = {run.id: run for run in services.runs.all()}
    return [there[run_id] for run_id in run_ids if run_id in there]


def comparison_choices(runs: Sequence[Run], chosen: Sequence[str]) -> Any:
    """Return the update that offers the runs there are; those chosen stay chosen."""
    ids = {run.id for run in runs}
    return gr.Dropdown(
        choices=[(run_label(run), run.id) for run in runs],
        value=[run_id for run_id in chosen if run_id in ids],
    )
