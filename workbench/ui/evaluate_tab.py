"""Evaluate tab: base and tuned, or several runs, answer the same rows; a card, every row, a report; the export."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from workbench.alone import make_room_to_ask
from workbench.data.store import SAMPLES
from workbench.errors import WorkbenchError
from workbench.evaluation.line import AskingLine
from workbench.evaluation.process import start
from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.tasks import TASK_WORDS, TASKS, Task
from workbench.runs.checkpoints import checkpoint_instead, models_by_step
from workbench.runs.store import Run
from workbench.runs.strength import kept_strength, strength_words
from workbench.services import Services
from workbench.ui.evaluate_compare import (
    NOT_YET,
    build_compare_panel,
    build_others,
    fill,
    hide,
    other_choices,
)
from workbench.ui.evaluate_files import json_file, report_path
from workbench.ui.evaluate_judge import build_judge_panel, wire_judge_panel
from workbench.ui.evaluate_row import build_row_panel, wire_row_panel
from workbench.ui.export_view import build_export_view
from workbench.ui.export_views import SAVED_MODEL
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.run_choices import choice_to_ask, run_to_ask, runs_to_ask
from workbench.ui.saving import save_on_click

if TYPE_CHECKING:
    from workbench.evaluation.result import Evaluation

POLL_SECONDS = 1.0
NO_MODEL = (
    "There is no tuned model yet. Train one on the Train tab, then see here what it got right."
)
HELD_BACK, FROM_DATA = "held-back", "auto"


def build_evaluate_tab(services: Services, page: gr.Blocks, tab: gr.Tab) -> gr.Dropdown:
    """Lay the tab out and wire it; return where the run is chosen."""
    with gr.Row(equal_height=True):
        run_choice = gr.Dropdown(
            runs_to_ask(services),
            label="Tuned model",
            info="Every run that has saved a model or a checkpoint.",
            elem_id="evaluate-run",
        )
        model_choice = gr.Dropdown(
            [("The saved model", SAVED_MODEL)],
            value=SAVED_MODEL,
            label="Which version",
            info="Checkpoints are kept along the way.",
            elem_id="evaluate-model",
        )
        data_choice = gr.Dropdown(
            [("The rows held back", HELD_BACK)],
            value=HELD_BACK,
            label="Rows to ask",
            info="Only rows it has not learned from tell anything.",
            elem_id="evaluate-data",
        )
    others_choice = build_others()
    with gr.Row(equal_height=True):
        limit = gr.Textbox(  # a number field shows 0 where it should be empty
            label="How many rows at most",
            info="Empty: all of them.",
            max_lines=1,
            elem_id="evaluate-limit",
        )
        task = gr.Dropdown(
            [("As the data says", FROM_DATA), *((TASK_WORDS[name], name) for name in TASKS)],
            value=FROM_DATA,
            label="Compare answers as",
            info="Can be changed afterwards, too.",
            elem_id="evaluate-task",
        )
        go = gr.Button("Evaluate", variant="primary", min_width=120, elem_id="evaluate-go")
        stop = gr.Button("Stop", min_width=90, interactive=False, elem_id="evaluate-stop")
    status = gr.Textbox(
        show_label=False,
        container=False,
        interactive=False,
        visible=False,
        elem_id="evaluate-status",
    )
    card = gr.HTML(apply_default_css=False, elem_id="evaluate-card")
    with gr.Column(visible=False) as lower:
        with gr.Row():
            which = gr.Radio(
                [
                    ("All", "all"),
                    ("Tuned wrong", "tuned_wrong"),
                    ("Got worse", "got_worse"),
                ],
                value="all",
                label="Rows",
                elem_id="evaluate-filter",
            )
            order = gr.Radio(
                [("As in the file", "file"), ("Highest loss first", "loss")],
                value="file",
                label="Order",
                elem_id="evaluate-order",
            )
        table = gr.Dataframe(
            label="Rows", interactive=False, wrap=True, max_height=420, datatype="str",
            elem_id="evaluate-rows",
        )  # fmt: skip
        opened = build_row_panel()
        with gr.Row():
            report = gr.DownloadButton("Download the report", elem_id="evaluate-report")
            as_json = gr.Button("Download as JSON", elem_id="evaluate-json")
        judge = build_judge_panel()
    compared = build_compare_panel()
    timer = gr.Timer(POLL_SECONDS, active=False)
    line = AskingLine(services.settings)
    build_export_view(services, page, tab, run_choice, model_choice)

    def asked_of(
        run_id: str | None, others: list[str] | None, model: str, data_id: str, most: str
    ) -> tuple[list[Run], EvaluationRequest]:
        runs = [run_to_ask(services, run_id), *(services.runs.get(one) for one in others or ())]
        ids = tuple(run.id for run in runs) if others else ()
        return runs, replace(_request(services, runs[0], model, data_id, most), compared=ids)

    @user_errors
    def begin(run_id: str | None, *choices: Any) -> Any:
        runs, request = asked_of(run_id, *choices)
        make_room_to_ask(services, *(request.directory(run) for run in runs))
        if request.compared:
            from workbench.evaluation.comparing import compared_requests  # takes seconds

            line.start(request, compared_requests(runs, request))
        else:
            start(runs[0], request, services.settings)
        return gr.Timer(active=True), gr.Button(interactive=True)

    @user_errors
    def end(run_id: str | None, *choices: Any) -> None:
        if run_id:
            runs, request = asked_of(run_id, *choices)
            line.stop(request, runs)

    @user_errors
    def show(
        run_id: str | None,
        others: list[str] | None,
        model: str,
        data_id: str,
        most: str,
        compare_as: str,
        filter_by: str,
        order_by: str,
        compared_filter: str,
    ) -> list[Any]:
        """Show how far it is, and what there is when it has ended."""
        # Their libraries take seconds.
        from workbench.evaluation.result import find_evaluation
        from workbench.ui import evaluate_views as views

        nothing = ["", gr.Column(visible=False), gr.skip(), gr.skip(), *hide()]
        off = [gr.Timer(active=False), gr.Button(interactive=False)]
        if not run_id:
            return [gr.Textbox(NO_MODEL, visible=True), *nothing, *off]
        try:
            runs, request = asked_of(run_id, others, model, data_id, most)
        except WorkbenchError:  # deleted meanwhile
            return [gr.Textbox(visible=False), *nothing, *off]
        progress = line.look(request, runs)
        words = views.progress_words(progress)
        said = gr.Textbox(words, visible=bool(words))
        if progress is not None and progress.state == "running":
            on = [gr.Timer(active=True), gr.Button(interactive=True)]
            return [said, *[gr.skip()] * len(nothing), *on]
        chosen = _task(compare_as)
        if request.compared:
            try:
                shown, is_complete = fill(services, runs, request, chosen, compared_filter)
            except WorkbenchError as error:  # they have no rows to compare on, or data is gone
                return [gr.Textbox(f"{error.message} {error.hint}", visible=True), *nothing, *off]
            said = gr.Textbox(words or NOT_YET, visible=not is_complete)
            return [said, *nothing[:4], *shown, *off]
        try:
            evaluation = find_evaluation(runs[0], request, chosen)
        except WorkbenchError as error:  # its data or its checkpoint is gone
            return [gr.Textbox(f"{error.message} {error.hint}", visible=True), *nothing, *off]
        if evaluation is None or not evaluation.rows:
            # It was asked at another strength, perhaps.
            words = words or strength_words(request.strength)
            return [gr.Textbox(words, visible=bool(words)), *nothing, *off]
        kept = views.kept_rows(evaluation.rows, filter_by, order_by)
        filled = gr.Dataframe(
            views.rows_table(kept),
            headers=views.HEADERS,
            column_widths=views.WIDTHS,
            label=f"{views.shown_words(len(kept))}. Click one to see where the answers differ",
        )
        shown = [views.card_html(evaluation), gr.Column(visible=True), filled]
        return [said, *shown, report_path(services, evaluation), *hide(), *off]

    def evaluation_of(run_id: str | None, *choices: Any) -> Evaluation | None:
        from workbench.evaluation.result import find_evaluation

        if not run_id:
            return None
        runs, request = asked_of(run_id, *choices)
        return None if request.compared else find_evaluation(runs[0], request)

    def document_of(*values: Any) -> tuple[str, str]:
        """Return name and text of what was found, as JSON."""
        *choices, compare_as = values
        runs, request = asked_of(*choices)
        task = _task(compare_as)
        return json_file(runs, request, task)

    def describe(run_id: str | None, others: list[str] | None) -> list[Any]:
        """Offer the states and the rows there are for a run."""
        infos = [services.datasets.info(sample) for sample in SAMPLES] + services.datasets.uploads()
        rows = [("The rows held back", HELD_BACK), *((info.name, info.id) for info in infos)]
        return [
            other_choices(services, run_id, others),
            state_choice(services.runs.get(run_id) if run_id else None),
            gr.Dropdown(rows, value=HELD_BACK),
        ]

    asked = [run_choice, others_choice, model_choice, data_choice, limit]
    inputs = [*asked, task, which, order, compared.which]
    outputs = [status, card, lower, table, report, *compared.outputs, timer, stop]
    wire_row_panel(opened, services, table, asked, evaluation_of)
    for button in (as_json, compared.as_json):
        save_on_click(button, document_of, [*asked, task])
    wire_judge_panel(judge, services, tab, asked, evaluation_of)
    judge.ended.change(show, inputs, outputs, **FOLLOW)
    go.click(begin, asked, [timer, stop], **PRIVATE)
    stop.click(end, asked, None, **QUIET)
    timer.tick(show, inputs, outputs, **QUIET)
    gr.on([component.change for component in inputs], show, inputs, outputs, **FOLLOW)
    gr.on(
        [page.load, run_choice.change],
        describe,
        [run_choice, others_choice],
        [others_choice, model_choice, data_choice],
        **FOLLOW,
    )
    # A run may have been evaluated by itself since.
    tab.select(
        lambda chosen, others: [
            choice_to_ask(services, chosen),
            other_choices(services, chosen, others),
        ],
        [run_choice, others_choice],
        [run_choice, others_choice],
        **QUIET,
    ).then(show, inputs, outputs, **FOLLOW)
    return run_choice


def state_choice(run: Run | None) -> Any:
    """Offer the states of a run: its saved model and its checkpoints, or those alone."""
    states = [("The saved model", SAVED_MODEL)]
    if run is None:
        return gr.Dropdown(states, value=SAVED_MODEL)
    instead = checkpoint_instead(run)
    steps = [(f"Checkpoint of step {step:,}", str(step)) for step in models_by_step(run)]
    if instead is None:
        return gr.Dropdown([*states, *steps], value=SAVED_MODEL)
    return gr.Dropdown(steps, value=str(instead))


def _request(
    services: Services, run: Run, model: str, data_id: str, most: str
) -> EvaluationRequest:
    return EvaluationRequest(
        # The state may not be chosen yet where there is no saved model.
        checkpoint=checkpoint_instead(run) if model == SAVED_MODEL else int(model),
        data=None if data_id == HELD_BACK else services.part(services.datasets.info(data_id)),
        limit=_row_count(most),
        strength=kept_strength(run),
    )


def _row_count(text: str | None) -> int | None:
    """Return the number of rows a person typed; ``None`` for all."""
    typed = (text or "").strip()  # gradio sends None for a field that was never on screen
    if not typed:
        return None
    if not typed.isdecimal() or not int(typed):
        raise WorkbenchError(f"{typed} is no number of rows.", "Type one such as 50, or nothing.")
    return int(typed)


def _task(name: str) -> Task | None:
    """Return the chosen kind of task; ``None`` for what the data says."""
    return next((task for task in TASKS if task == name), None)
