"""Evaluate tab, a judge: another model somewhere says which answers are better. Only where a person presses for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.ui.guard import PRIVATE, QUIET, user_errors

if TYPE_CHECKING:
    from workbench.evaluation.judging_line import JudgingLine
    from workbench.evaluation.result import Evaluation

POLL_SECONDS = 1.0
HELP = (
    "Another model can say for each row which answer is better: any service that speaks OpenAI's protocol. "
    "**The questions, expected answers and both models' answers leave this computer for the address you give.** "
    "Every row is asked twice, with the answers in either order; a verdict that changes with the order is a tie. "
    "The key is kept in memory only, and forgotten when the workbench ends."
)


@dataclass(frozen=True)
class JudgePanel:
    """Where a judge is asked.

    Attributes:
        url: The address.
        model: The judge's model.
        key: Its key; typed, or that of the environment where it is empty.
        go: Begins.
        stop: Ends.
        status: How far it is.
        timer: Looks.
        ended: Changes when a judging has ended.
    """

    url: gr.Textbox
    model: gr.Textbox
    key: gr.Textbox
    go: gr.Button
    stop: gr.Button
    status: gr.Textbox
    timer: gr.Timer
    ended: gr.State


def build_judge_panel() -> JudgePanel:
    """Lay it out."""
    with gr.Accordion("Ask a judge", open=False, elem_id="evaluate-judge"):
        gr.Markdown(HELP)
        with gr.Row(equal_height=True):
            url = gr.Textbox(
                label="Address",
                info="It usually ends in /v1.",
                placeholder="https://api.example.com/v1",
                max_lines=1,
                elem_id="judge-url",
            )
            model = gr.Textbox(
                label="Model",
                info="What that service calls it.",
                max_lines=1,
                elem_id="judge-model",
            )
            key = gr.Textbox(
                label="Key",
                info="Empty: that of WORKBENCH_JUDGE_KEY, if any.",
                type="password",
                max_lines=1,
                elem_id="judge-key",
            )
        with gr.Row(equal_height=True):
            go = gr.Button("Send the rows to the judge", min_width=160, elem_id="judge-go")
            stop = gr.Button("Stop", min_width=90, interactive=False, elem_id="judge-stop")
        status = gr.Textbox(
            show_label=False,
            container=False,
            interactive=False,
            visible=False,
            elem_id="judge-status",
        )
        timer, ended = gr.Timer(POLL_SECONDS, active=False), gr.State(0)
    return JudgePanel(url, model, key, go, stop, status, timer, ended)


def wire_judge_panel(
    panel: JudgePanel,
    services: Services,
    tab: gr.Tab,
    asked: list[Any],
    evaluation_of: Callable[..., Evaluation | None],
) -> None:
    """Wire it.

    Args:
        panel: What was laid out.
        services: Holds the key of the environment.
        tab: Where it stands.
        asked: The choices that say which evaluation is meant.
        evaluation_of: Takes their values; ``None`` where nothing was evaluated.
    """
    lines: list[JudgingLine] = []

    def line() -> JudgingLine:
        from workbench.evaluation.judging_line import JudgingLine  # its libraries take seconds

        if not lines:
            lines.append(JudgingLine())
        return lines[0]

    @user_errors
    def send(url: str, model: str, key: str, *choices: Any) -> list[Any]:
        from workbench.evaluation.judging import Judge

        # gradio sends None for a field that was never on screen
        typed = [(text or "").strip() for text in (url, model, key)]
        judge = Judge(typed[0], typed[1], typed[2] or services.settings.judge_key)
        evaluation = evaluation_of(*choices)
        if evaluation is None or not evaluation.rows:
            raise WorkbenchError("Nothing was evaluated yet.", "Press Evaluate first.")
        line().start(judge, evaluation)
        return [gr.Timer(active=True), gr.Button(interactive=True)]

    def tell_of_judge(run_id: str | None, ended: int) -> list[Any]:
        is_working, words = line().is_working, line().words(run_id)
        return [
            gr.Textbox(words, visible=bool(words)),
            gr.Timer(active=is_working),
            gr.Button(interactive=is_working),
            gr.skip() if is_working else ended + 1,
        ]

    panel.go.click(
        send, [panel.url, panel.model, panel.key, *asked], [panel.timer, panel.stop], **PRIVATE
    )
    panel.stop.click(lambda: line().stop(), None, None, **QUIET)
    gr.on(
        [panel.timer.tick, tab.select],  # it may be under way since the page was closed
        tell_of_judge,
        [asked[0], panel.ended],
        [panel.status, panel.timer, panel.stop, panel.ended],
        **QUIET,
    )
