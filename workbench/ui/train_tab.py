"""Train tab: start, watch, stop. The page only reads; the run goes on without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.remedies import find_shortage
from workbench.runs.logs import read_log
from workbench.runs.reading import Reading, read_loss
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.runs.strength import AS_TRAINED, kept_strength
from workbench.services import Services
from workbench.ui.chart_panel import build_chart_panel
from workbench.ui.configure_tab import ConfigureTab
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.keep_posted import build_keep_posted, news_of
from workbench.ui.run_actions import build_run_actions, chosen_run, run_choices
from workbench.ui.train_evaluation import build_evaluation_line
from workbench.ui.views import (
    line_words,
    plain,
    plan_sentence,
    reading_words,
    run_status,
    samples_table,
)

POLL_SECONDS = 1.0
LOG_CHARACTERS = 8_000
START, WAIT = "Start training", "Put in line: start when the present run has ended"


@dataclass(frozen=True)
class TrainTab:
    """What the page needs of it: the run that is shown, and the button that opens its evaluation."""

    run_choice: gr.Dropdown
    open_evaluation: gr.Button


def build_train_tab(services: Services, page: gr.Blocks, configure: ConfigureTab) -> TrainTab:
    """Lay the tab out and wire it."""
    timer = gr.Timer(POLL_SECONDS)
    with gr.Row(equal_height=True):
        name = gr.Textbox(
            label="Name of the run",
            placeholder="optional; the file's name otherwise",
            max_lines=1,
            max_length=80,
            scale=3,
            elem_id="train-name",
        )
        start = gr.Button(START, variant="primary", scale=4, elem_id="train-start")
    promise = gr.Markdown(elem_id="train-plan")
    force = gr.Checkbox(
        label="Start anyway, although memory or disk are short",
        visible=False,
        elem_id="train-force",
    )
    run_choice = gr.Dropdown(run_choices(services), label="Run shown below", elem_id="train-run")
    line = gr.HTML(visible=False, elem_id="train-line")
    status = gr.HTML(run_status(None, None), elem_id="train-status")
    open_evaluation = build_evaluation_line(services, run_choice, timer)
    reading = gr.HTML(visible=False, elem_id="train-reading")
    actions = build_run_actions(services, run_choice)
    posted = build_keep_posted()
    chart = build_chart_panel(services, run_choice)
    with gr.Accordion(
        "Watch it learn: the same questions, asked again and again", visible=False
    ) as watch_panel:
        samples = gr.HTML(apply_default_css=False, elem_id="train-samples")
    with gr.Accordion("Technical log", open=False):
        log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="train-log")
    shown = gr.State("")  # the run and how far it was, of which samples and log are on the page

    @user_errors
    def start_run(run_name: str, forced: bool, preset: str, *values: Any) -> Any:
        plan, data = configure.read(services, values)
        parent = services.starting_points.run(preset)
        chatted = services.chat.run_id
        run = services.start(plan, data, run_name or "", force=forced, parent=parent)
        if chatted:
            gr.Info("The models of the Playground gave their memory back, so that this run has it.")
        return chosen_run(services, run)

    def reopen() -> Any:
        """Show the run that trains, else the newest."""
        return gr.Dropdown(run_choices(services), value=newest_run_id(services))

    def promise_plan(*values: Any) -> list[Any]:
        try:
            plan, _ = configure.read(services, values)
        except WorkbenchError as error:
            return [f"**Not ready:** {plain(str(error))}", gr.Checkbox(visible=False)]
        shortage = find_shortage(plan)
        words = plain(shortage.message) if shortage else "You may close this page meanwhile."
        return [f"{plan_sentence(plan)} {words}", gr.Checkbox(visible=shortage is not None)]

    @user_errors
    def refresh(
        run_id: str | None, already_shown: str, already_drawn: str, *chosen: Any
    ) -> list[Any]:
        run = _existing_run(services, run_id)
        snapshot = services.supervisor.snapshot(run) if run else None
        return [
            gr.update(value=START if services.supervisor.is_idle() else WAIT),
            _shown_if(line_words(services.supervisor.line())),
            run_status(run, snapshot, kept_strength(run) if run else AS_TRAINED),
            news_of(run, snapshot),
            *actions.show(run, snapshot),
            *_words_of(run, snapshot, already_shown),
            *chart.draw(run.id if run else "", snapshot, already_drawn, *chosen),
        ]

    view = [
        start,
        line,
        status,
        posted.news,
        *actions.outputs,
        reading,
        watch_panel,
        samples,
        log,
        shown,
        *chart.outputs,
    ]
    start.click(
        start_run,
        [name, force, configure.preset, *configure.components],
        run_choice,
        concurrency_limit=1,
        **PRIVATE,
    )
    looked_at = [run_choice, shown, *chart.inputs]
    posted.after(timer.tick(refresh, looked_at, view, **FOLLOW))
    for chooser in (run_choice, *chart.components):
        chooser.change(refresh, looked_at, view, **FOLLOW)
    changes = [page.load, *(component.change for component in configure.components)]
    gr.on(changes, promise_plan, configure.components, [promise, force], **FOLLOW)
    page.load(reopen, None, run_choice, **QUIET)
    return TrainTab(run_choice, open_evaluation)


def newest_run_id(services: Services) -> str | None:
    """Return the run a page opens with: the one that trains, else the newest."""
    active = services.supervisor.active_run()
    ids = services.runs.ids()
    return active.id if active else (ids[0] if ids else None)


def _existing_run(services: Services, run_id: str | None) -> Run | None:
    try:
        return services.runs.get(run_id) if run_id else None
    except WorkbenchError:  # deleted meanwhile
        return None


def _read(snapshot: RunSnapshot) -> Reading | None:
    reading = read_loss(snapshot.steps, snapshot.evaluations, snapshot.total_steps)
    advises_to_wait = reading is not None and reading.kind == "too few steps"
    return None if advises_to_wait and not snapshot.is_active else reading


def _shown_if(text: str) -> Any:
    """Return the update of a component that takes no room while it has nothing to say."""
    return gr.HTML(text, visible=bool(text))


def _words_of(run: Run | None, snapshot: RunSnapshot | None, already_shown: str) -> list[Any]:
    """Return the loss in words, samples, log, and what they are of; nothing where they are shown already."""
    if run is None or snapshot is None:
        return [_shown_if(""), gr.update(visible=False), "", "", ""]
    now = f"{run.id} {snapshot.step} {len(snapshot.samples)} {snapshot.state} {snapshot.phase}"
    if now == already_shown:
        return [gr.skip(), gr.skip(), gr.skip(), gr.skip(), already_shown]
    return [
        _shown_if(reading_words(_read(snapshot))),
        gr.update(visible=bool(snapshot.samples)),
        samples_table(snapshot.samples),
        read_log(run, LOG_CHARACTERS)[0],
        now,
    ]
