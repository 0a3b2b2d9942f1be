"""Evaluate tab, several runs on the same rows: the choice of runs, and the panel that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.tasks import Task
from workbench.files import write_text_atomically
from workbench.runs.side_by_side import MOST
from workbench.runs.store import Run
from workbench.services import Services
from workbench.settings import ensure_dir
from workbench.ui.run_choices import finished_runs

NOT_YET = (
    "Press Evaluate: these runs then answer the same rows, one run after the other. What was answered before "
    "is not asked again."
)


@dataclass(frozen=True)
class ComparePanel:
    """Several runs on the same rows.

    Attributes:
        which: Which rows are listed.
        as_json: Downloads what was found.
        outputs: What ``fill`` and ``hide`` return the values of.
    """

    which: gr.Radio
    as_json: gr.Button
    outputs: list[Any]


def build_others() -> gr.Dropdown:
    """Lay out the choice of runs to compare with."""
    return gr.Dropdown(
        [],
        label="Compare with",
        info="Other runs answer the same rows. Rows that any of them learned from are left out.",
        multiselect=True,
        max_choices=MOST - 1,
        visible=False,
        elem_id="evaluate-others",
    )


def build_compare_panel() -> ComparePanel:
    """Lay out what is shown of several runs."""
    with gr.Column(visible=False, elem_id="evaluate-comparison") as panel:
        card = gr.HTML(apply_default_css=False, elem_id="evaluate-compared")
        with gr.Row():
            which = gr.Radio(
                [("All", "all"), ("Where the models differ", "differ")],
                value="all",
                label="Rows",
                elem_id="evaluate-compared-filter",
            )
            report = gr.DownloadButton("Download the report", elem_id="evaluate-compared-report")
            as_json = gr.Button("Download as JSON", elem_id="evaluate-compared-json")
        table = gr.Dataframe(
            label="Rows", interactive=False, wrap=True, max_height=420, datatype="str",
            elem_id="evaluate-compared-rows",
        )  # fmt: skip
    return ComparePanel(which, as_json, [panel, card, table, report])


def other_choices(services: Services, run_id: str | None, chosen: Sequence[str] | None) -> Any:
    """Offer every other run that has a model, if there is one; those chosen that are still there stay."""
    choices = [(label, other) for label, other in finished_runs(services) if other != run_id]
    there = {other for _, other in choices}
    kept = [other for other in chosen or () if other in there]
    offer: dict[str, Any] = {"choices": choices, "visible": bool(choices), "multiselect": True}
    if kept != list(chosen or ()):  # else leave it alone: by now others may be chosen
        offer["value"] = kept
    return gr.Dropdown(**offer)


def hide() -> list[Any]:
    """Show nothing."""
    return [gr.Column(visible=False), gr.skip(), gr.skip(), gr.skip()]


def fill(
    services: Services,
    runs: Sequence[Run],
    request: EvaluationRequest,
    task: Task | None,
    filter_by: str,
) -> tuple[list[Any], bool]:
    """Show what there is of a comparison, and say whether that is all.

    Raises:
        WorkbenchError: Data or a model is gone, or no row is left to ask.
    """
    # Their libraries take seconds.
    from workbench.evaluation.comparing import find_comparison
    from workbench.evaluation.comparing_report import comparison_report_html
    from workbench.ui import evaluate_compare_views as views
    from workbench.ui.evaluate_views import shown_words

    comparison = find_comparison(runs, request, task)
    if comparison is None or not comparison.rows:
        return hide(), False
    path = ensure_dir(services.settings.reports_dir) / f"compare-{runs[0].id}.html"
    write_text_atomically(path, comparison_report_html(comparison))
    kept = views.kept_rows(comparison, filter_by)
    cells = gr.Dataframe(
        views.compared_rows(kept),
        headers=views.headers(comparison),
        column_widths=views.widths(comparison),
        label=shown_words(len(kept)),
    )
    shown = [gr.Column(visible=True), views.compared_html(comparison), cells, str(path)]
    return shown, comparison.is_complete
