"""What can be done with the run that is shown: stop, resume, continue, start a safer copy, move in line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.copies import continue_run, start_copy
from workbench.errors import WorkbenchError
from workbench.remedies import Remedy, safer_copy
from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.services import Services
from workbench.ui.guard import PRIVATE, user_errors
from workbench.ui.views import run_label

MORE_EPOCHS = 2
MEMORY_PHASES = ("loading", "training", "saving")  # where a run holds the model


@dataclass(frozen=True)
class RunActions:
    """The buttons; which are there depends on the run."""

    outputs: list[Any]

    def show(self, run: Run | None, snapshot: RunSnapshot | None) -> list[Any]:
        """Return what the buttons look like for a run."""
        if run is None or snapshot is None:
            return [gr.update(visible=False) for _ in self.outputs]
        state = snapshot.state
        working, waiting = state in ("starting", "running", "stopping"), state == "queued"
        checkpoint = None if snapshot.is_active else newest_checkpoint(run.checkpoints_dir)
        remedy, lost = remedy_of(run, snapshot), state == "lost"
        resume_label = f"Resume from step {checkpoint.step:,}" if checkpoint else "Begin again"
        return [
            gr.update(visible=working, interactive=state != "stopping"),
            gr.update(visible=working),
            gr.update(visible=waiting, interactive=(snapshot.place or 1) > 1),
            gr.update(visible=waiting),
            gr.update(visible=waiting),
            gr.update(
                visible=snapshot.can_resume,
                value=resume_label,
                variant="secondary" if remedy and not lost else "primary",
            ),
            gr.update(
                visible=remedy is not None,
                value=remedy.label if remedy else "",
                variant="secondary" if lost else "primary",
            ),
            gr.update(visible=checkpoint is not None),
        ]


def build_run_actions(services: Services, run_choice: gr.Dropdown, token: gr.Textbox) -> RunActions:
    """Lay the buttons out and wire them.

    Args:
        services: What they act on.
        run_choice: The run shown, by its id; a new run is chosen there.
        token: The access token for a gated model.
    """
    with gr.Row():
        stop = gr.Button("Stop and keep what was learned", visible=False, elem_id="train-stop")
        kill = gr.Button(
            "Stop now, discard since the last checkpoint",
            variant="stop",
            visible=False,
            elem_id="train-kill",
        )
        sooner = gr.Button("Sooner", visible=False, elem_id="train-sooner")
        later = gr.Button("Later", visible=False, elem_id="train-later")
        leave = gr.Button("Take out of the line", visible=False, elem_id="train-leave")
        resume = gr.Button("Resume", variant="primary", visible=False, elem_id="train-resume")
        safer = gr.Button("", variant="primary", visible=False, elem_id="train-safer")
    with gr.Accordion(
        "Continue training", open=False, visible=False, elem_id="train-more"
    ) as more_panel:
        gr.Markdown(
            "Makes a new run that begins with what this one learned, on the same data. The learning rate "
            "starts anew, so a few epochs are enough.",
            elem_classes="wb-help",
        )
        with gr.Row(equal_height=True):
            epochs = gr.Number(
                MORE_EPOCHS, label="More epochs", minimum=0.1, maximum=1000, elem_id="train-epochs"
            )
            more = gr.Button("Continue training", elem_id="train-continue")

    def act(function: Any, *, chooses: bool = False) -> Any:
        """Return a handler for the chosen run; the run it returns is chosen then."""

        @user_errors
        def handle(run_id: str | None, *values: Any) -> Any:
            if not run_id:
                raise WorkbenchError("There is no run to do that with.", "Choose one.")
            made = function(services.runs.get(run_id), *values)
            return chosen_run(services, made) if chooses else None

        return handle

    def start_safer(run: Run) -> Run:
        remedy = remedy_of(run, services.supervisor.snapshot(run))
        if remedy is None:
            raise WorkbenchError("There is nothing known that would help this run.")
        return start_copy(services, run, remedy.changes)

    supervisor = services.supervisor
    for button, function in (
        (stop, supervisor.request_stop),
        (kill, supervisor.kill),
        (sooner, lambda run: supervisor.move(run, -1)),
        (later, lambda run: supervisor.move(run, 1)),
        (leave, supervisor.request_stop),
    ):
        button.click(act(function), run_choice, None, **PRIVATE)
    resume.click(act(services.resume), [run_choice, token], None, **PRIVATE)
    safer.click(
        act(start_safer, chooses=True), run_choice, run_choice, concurrency_limit=1, **PRIVATE
    )
    more.click(
        act(lambda run, epochs: continue_run(services, run, epochs), chooses=True),
        [run_choice, epochs],
        run_choice,
        concurrency_limit=1,
        **PRIVATE,
    )
    return RunActions([stop, kill, sooner, later, leave, resume, safer, more_panel])


def remedy_of(run: Run, snapshot: RunSnapshot) -> Remedy | None:
    """Return what would keep a failed run from failing again.

    A run whose process vanished was most often ended by the system, which does so when memory is short.
    """
    if snapshot.state == "lost" and snapshot.phase in MEMORY_PHASES:
        return safer_copy(run.config, "memory")
    failed = snapshot.state == "failed" and snapshot.finished
    return safer_copy(run.config, snapshot.finished.cause) if failed and snapshot.finished else None


def run_choices(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every run, the newest first."""
    return [(run_label(run), run.id) for run in services.runs.all()]


def chosen_run(services: Services, run: Run) -> Any:
    """Return the update that shows a run."""
    return gr.Dropdown(run_choices(services), value=run.id)
