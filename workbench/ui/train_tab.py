"""Train tab: start, watch, stop. The page only reads; the run goes on without it.

A look each second costs the browser most: for each value that comes, gradio searches its whole page for the
component, three times over where that is hidden. So a look brings only what changes all the time, and in one word
how things stand; what seldom changes follows that word.
"""

from __future__ import annotations

import functools
import json
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.evaluation.process import look as look_at_evaluation
from workbench.evaluation.request import EvaluationRequest
from workbench.models.sources import find_model
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
from workbench.ui.models_view import what_is_known
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
IDLE_POLL_SECONDS = 4.0  # while the run that is shown does nothing
SELDOM_SECONDS = 5.0  # how often the loss in words and the log follow while a run trains
LOG_CHARACTERS = 8_000
FORCE = "Start anyway, although memory or disk are short"
FORCE_HINT = f'Or tick "{FORCE}" below Start.'
START, WAIT = "Start training", "Put in line: start when the present run has ended"


@dataclass(frozen=True)
class TrainTab:
    """What the page needs of it: the run that is shown, and the button that opens its evaluation."""

    run_choice: gr.Dropdown
    open_evaluation: gr.Button


def build_train_tab(
    services: Services, page: gr.Blocks, tab: gr.Tab, configure: ConfigureTab
) -> TrainTab:
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
        label=FORCE,
        visible=False,
        elem_id="train-force",
    )
    run_choice = gr.Dropdown(run_choices(services), label="Run shown below", elem_id="train-run")
    line = gr.HTML(visible=False, elem_id="train-line")
    status = gr.HTML(run_status(None, None), elem_id="train-status")
    situation = gr.Textbox(visible="hidden", elem_id="train-situation")
    open_evaluation = build_evaluation_line(services, run_choice, situation)
    reading = gr.HTML(visible=False, elem_id="train-reading")
    actions = build_run_actions(services, run_choice, configure.models.token)
    posted = build_keep_posted()
    chart = build_chart_panel(services, run_choice)
    with gr.Accordion(
        "Watch it learn: the same questions, asked again and again", visible=False
    ) as watch_panel:
        samples = gr.HTML(apply_default_css=False, elem_id="train-samples")
    with gr.Accordion("Technical log", open=False):
        log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="train-log")

    @user_errors
    def start_run(run_name: str, forced: bool, preset: str, token: str, *values: Any) -> Any:
        services.ensure_known(find_model(configure.config(services, values).model), token)
        plan, data = configure.read(services, values)
        parent = services.starting_points.run(preset)
        chatted = services.chat.run_id
        run = services.start(
            plan,
            data,
            run_name or "",
            force=forced,
            force_hint=FORCE_HINT,
            parent=parent,
            token=token,
        )
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
    def look(run_id: str | None, was: str, already_drawn: str, *chosen: Any) -> list[Any]:
        """Show how far the run is."""
        run = _existing_run(services, run_id)
        snapshot = services.supervisor.snapshot(run) if run else None
        now = situation_of(services, run, snapshot)
        drawn = chart.draw(run.id if run else "", snapshot, already_drawn, *chosen)
        if now == was and not (snapshot and snapshot.is_active):
            return [gr.skip(), gr.skip(), gr.skip(), *drawn]
        strength = kept_strength(run) if run else AS_TRAINED
        return [now, run_status(run, snapshot, strength), news_of(run, snapshot), *drawn]

    @user_errors
    def follow(run_id: str | None) -> list[Any]:
        """Show what depends on how things stand."""
        run = _existing_run(services, run_id)
        snapshot = services.supervisor.snapshot(run) if run else None
        return [
            gr.update(value=START if services.supervisor.is_idle() else WAIT),
            _shown_if(line_words(services.supervisor.line())),
            *actions.show(run, snapshot),
            *_words_of(run, snapshot),
            chart.show(snapshot),
            gr.Timer(POLL_SECONDS if _is_moving(run, snapshot) else IDLE_POLL_SECONDS),
        ]

    started = start.click(
        start_run,
        [name, force, configure.preset, configure.models.token, *configure.components],
        run_choice,
        concurrency_limit=1,
        **PRIVATE,
    )
    model, known = configure.settings[0], configure.models.known
    started.then(functools.partial(what_is_known, services), model, known, **QUIET)
    looked_at = [run_choice, situation, *chart.inputs]
    seen = [situation, status, posted.news, *chart.outputs]
    looks = [timer.tick, tab.select, *(one.change for one in (run_choice, *chart.components))]
    posted.after(gr.on(looks, look, looked_at, seen, **FOLLOW))
    view = [start, line, *actions.outputs, reading, watch_panel, samples, log, chart.panel, timer]
    situation.change(follow, run_choice, view, **FOLLOW)
    changes = [page.load, *(component.change for component in [*configure.components, known])]
    gr.on(changes, promise_plan, configure.components, [promise, force], **FOLLOW)
    started.failure(promise_plan, configure.components, [promise, force], **FOLLOW)
    page.load(reopen, None, run_choice, **QUIET)
    return TrainTab(run_choice, open_evaluation)


def newest_run_id(services: Services) -> str | None:
    """Return the run a page opens with: the one that trains, else the newest."""
    active = services.supervisor.active_run()
    ids = services.runs.ids()
    return active.id if active else (ids[0] if ids else None)


def situation_of(services: Services, run: Run | None, snapshot: RunSnapshot | None) -> str:
    """Return a word that changes when more than the progress of a run has changed; now and then also while it trains."""
    active, waiting = services.supervisor.active_run(), services.supervisor.line()
    around = [active and active.id, *(other.id for other in waiting)]
    if run is None or snapshot is None:
        return json.dumps(around)
    strength = kept_strength(run)
    evaluation = look_at_evaluation(EvaluationRequest(strength=strength).directory(run))
    parts = (
        run.id, run.name, snapshot.state, snapshot.phase, snapshot.place, len(snapshot.samples),
        len(snapshot.evaluations), bool(snapshot.steps), snapshot.can_resume, strength,
        run.evaluation_due_path.exists(), str(evaluation),
    )  # fmt: skip
    moment = time.time() // SELDOM_SECONDS if snapshot.is_active else 0
    return json.dumps([*parts, moment, *around])


def _is_moving(run: Run | None, snapshot: RunSnapshot | None) -> bool:
    """Say whether a run works or waits, or is going to be evaluated."""
    if run is None or snapshot is None:
        return False
    return snapshot.is_active or run.evaluation_due_path.exists()


def _existing_run(services: Services, run_id: str | None) -> Run | None:
    try:
        return services.runs.get(run_id) if run_id else None
    except WorkbenchError:  # deleted meanwhile
        return None


def _read(snapshot: RunSnapshot) -> Reading | None:
    reading = read_loss(
        snapshot.steps,
        snapshot.evaluations,
        snapshot.total_steps,
        is_over=not snapshot.is_active,
    )
    advises_to_wait = reading is not None and reading.kind == "too few steps"
    return None if advises_to_wait and not snapshot.is_active else reading


def _shown_if(text: str) -> Any:
    """Return the update of a component that takes no room while it has nothing to say."""
    return gr.HTML(text, visible=bool(text))


def _words_of(run: Run | None, snapshot: RunSnapshot | None) -> list[Any]:
    """Return the loss in words, samples and log."""
    if run is None or snapshot is None:
        return [_shown_if(""), gr.update(visible=False), "", ""]
    return [
        _shown_if(reading_words(_read(snapshot))),
        gr.update(visible=bool(snapshot.samples)),
        samples_table(snapshot.samples),
        read_log(run, LOG_CHARACTERS)[0],
    ]
