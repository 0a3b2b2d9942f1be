"""Below a run that has ended: what its evaluation found, or how far it is, and the way to all of it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.evaluation.process import look
from workbench.evaluation.request import EvaluationRequest
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.runs.strength import kept_strength
from workbench.services import Services
from workbench.ui.guard import FOLLOW


def build_evaluation_line(
    services: Services, run_choice: gr.Dropdown, situation: gr.Textbox
) -> Any:
    """Lay the line out; return the button that is to open the Evaluate tab.

    Args:
        services: Where the runs are.
        run_choice: The run shown, by its id.
        situation: Changes when there is something new to tell.
    """
    with gr.Row(visible=False, equal_height=True) as row:
        line = gr.Textbox(
            show_label=False,
            container=False,
            interactive=False,
            max_lines=3,
            scale=5,
            elem_id="train-evaluation",
        )
        more = gr.Button(
            "Open Evaluate", size="sm", min_width=140, scale=1, elem_id="train-evaluate"
        )

    def tell(run_id: str | None) -> list[Any]:
        try:
            run = services.runs.get(run_id or "")
            words = evaluation_words(
                run, services.supervisor.summary(run), is_idle=services.supervisor.is_idle()
            )
        except WorkbenchError:  # the run was deleted meanwhile, or its data
            words = ""
        return [gr.Row(visible=bool(words)), words]

    # Apart from what else the tab shows: the libraries for metrics take seconds when first needed.
    situation.change(tell, run_choice, [row, line], **FOLLOW)
    return more


def evaluation_words(run: Run, snapshot: RunSnapshot, *, is_idle: bool) -> str:
    """Say what the evaluation of a run on the rows it held back found, or how far it is; empty for none.

    Args:
        run: Which run.
        snapshot: How it is.
        is_idle: No run trains or waits.

    Raises:
        WorkbenchError: Its data is gone.
    """
    if snapshot.state not in ("finished", "stopped") or not run.model_dir.is_dir():
        return ""
    from workbench.evaluation.card import headline
    from workbench.evaluation.result import find_evaluation
    from workbench.ui.evaluate_views import progress_words

    request = EvaluationRequest(strength=kept_strength(run))
    progress = look(request.directory(run))
    if progress and progress.state == "running":
        return f"It is being evaluated. {progress_words(progress)}"
    if run.evaluation_due_path.exists() and not (is_idle and progress):
        return f"It is evaluated {'as soon as nothing else is at work' if is_idle else 'when no run trains or waits'}."
    if progress and progress.state != "finished":
        return f"Evaluation: {progress_words(progress)}"
    evaluation = find_evaluation(run, request)
    return headline(evaluation) if evaluation and evaluation.rows else ""
