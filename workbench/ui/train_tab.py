"""Train tab: start, watch, stop. The page only reads; the run goes on without it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.remedies import find_shortage
from workbench.runs.store import Run
from workbench.services import Services
from workbench.ui.charts import loss_figure
from workbench.ui.configure_tab import ConfigureTab
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.views import plain, plan_sentence, run_label, run_status

POLL_SECONDS = 1.0
LOG_CHARACTERS = 8_000


def build_train_tab(services: Services, page: gr.Blocks, configure: ConfigureTab) -> None:
    """Lay the tab out and wire it."""
    with gr.Row(equal_height=True):
        name = gr.Textbox(
            label="Name of the run",
            placeholder="optional; the file's name otherwise",
            max_lines=1,
            max_length=80,
            scale=3,
            elem_id="train-name",
        )
        run_choice = gr.Dropdown(
            run_choices(services), label="Run shown below", scale=4, elem_id="train-run"
        )
    promise = gr.Markdown(elem_id="train-plan")
    with gr.Row():
        start = gr.Button("Start training", variant="primary", scale=3, elem_id="train-start")
        stop = gr.Button(
            "Stop and keep what was learned", scale=2, interactive=False, elem_id="train-stop"
        )
        kill = gr.Button(
            "Stop now, discard", variant="stop", scale=1, visible=False, elem_id="train-kill"
        )
    force = gr.Checkbox(
        label="Start anyway, although memory or disk are short",
        visible=False,
        elem_id="train-force",
    )
    status = gr.HTML(run_status(None, None), elem_id="train-status")
    chart = gr.Plot(show_label=False, visible=False, elem_id="train-chart")
    with gr.Accordion("Technical log", open=False):
        log = gr.Textbox(show_label=False, lines=12, max_lines=12, elem_id="train-log")
    timer = gr.Timer(POLL_SECONDS)
    drawn = gr.State("")  # what the chart shows: run and number of points

    @user_errors
    def start_run(run_name: str, forced: bool, *values: Any) -> Any:
        plan, data = configure.read(services, values)
        services.chat.close()  # its memory is needed now
        services.tokenizer.close()
        run = services.start(plan, data, run_name or "", force=forced)
        return gr.Dropdown(run_choices(services), value=run.id)

    def reopen() -> Any:
        """Show the run that trains, else the newest."""
        return gr.Dropdown(run_choices(services), value=newest_run_id(services))

    @user_errors
    def stop_run(run_id: str | None) -> None:
        if run_id:
            services.supervisor.request_stop(services.runs.get(run_id))

    @user_errors
    def kill_run(run_id: str | None) -> None:
        if run_id:
            services.supervisor.kill(services.runs.get(run_id))

    def promise_plan(*values: Any) -> list[Any]:
        try:
            plan, _ = configure.read(services, values)
        except WorkbenchError as error:
            return [f"**Not ready:** {plain(str(error))}", gr.Checkbox(visible=False)]
        shortage = find_shortage(plan)
        words = plain(shortage.message) if shortage else "You may close this page meanwhile."
        return [f"{plan_sentence(plan)} {words}", gr.Checkbox(visible=shortage is not None)]

    @user_errors
    def refresh(run_id: str | None, already_drawn: str) -> list[Any]:
        run = _existing_run(services, run_id)
        if run is None:
            return [run_status(None, None), gr.skip(), *_buttons(None), gr.skip(), already_drawn]
        snapshot = services.supervisor.snapshot(run)
        to_draw = f"{run.id} {len(snapshot.steps)} {len(snapshot.evaluations)} {snapshot.state}"
        if to_draw == already_drawn:
            figure = gr.skip()
        else:
            has_points = bool(snapshot.steps or snapshot.evaluations)
            figure = gr.Plot(loss_figure(snapshot) if has_points else None, visible=has_points)
        shown_log = gr.skip() if to_draw == already_drawn else _log_tail(run)
        return [run_status(run, snapshot), figure, *_buttons(snapshot), shown_log, to_draw]

    view = [status, chart, start, stop, kill, log, drawn]
    start.click(
        start_run,
        [name, force, *configure.components],
        run_choice,
        concurrency_limit=1,
        **PRIVATE,
    )
    stop.click(stop_run, run_choice, None, **PRIVATE)
    kill.click(kill_run, run_choice, None, **PRIVATE)
    timer.tick(refresh, [run_choice, drawn], view, **FOLLOW)
    run_choice.change(refresh, [run_choice, drawn], view, **FOLLOW)
    changes = [page.load, *(component.change for component in configure.components)]
    gr.on(changes, promise_plan, configure.components, [promise, force], **FOLLOW)
    page.load(reopen, None, run_choice, **QUIET)


def run_choices(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every run, the newest first."""
    runs = [services.runs.get(run_id) for run_id in services.runs.ids()]
    return [(run_label(run), run.id) for run in runs]


def newest_run_id(services: Services) -> str | None:
    """Return the run a page opens with: the one that trains, else the newest."""
    active = services.supervisor.active_run()
    ids = services.runs.ids()
    return active.id if active else (ids[0] if ids else None)


def _existing_run(services: Services, run_id: str | None) -> Run | None:
    return services.runs.get(run_id) if run_id in services.runs.ids() else None


def _buttons(snapshot: Any) -> list[Any]:
    """Return Start, Stop and Stop-now as they can be used now."""
    active = bool(snapshot and snapshot.is_active)
    stopping = bool(snapshot and snapshot.state == "stopping")
    return [
        gr.update(interactive=not active),
        gr.update(interactive=active and not stopping),
        gr.update(visible=stopping),
    ]


def _log_tail(run: Run) -> str:
    if not run.log_path.exists():
        return ""
    with run.log_path.open("rb") as file:
        file.seek(max(0, run.log_path.stat().st_size - LOG_CHARACTERS))
        return file.read().decode("utf-8", errors="replace").replace("\r", "\n")
