"""Playground tab, once both sides have answered: where the answers differ, and which one is better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.runs.chats import Chat
from workbench.runs.store import Run
from workbench.runs.votes import SAME, Vote, add_vote, count_votes, read_votes
from workbench.services import Services
from workbench.ui.difference_views import differences_html
from workbench.ui.guard import PRIVATE, user_errors
from workbench.ui.playground_talk import model_label


@dataclass(frozen=True)
class PairPanel:
    """The panel.

    Attributes:
        panel: All of it, to hide while an answer is written.
        show: Takes the chat that ended on two answers, if any, and returns the values of ``outputs``.
    """

    panel: gr.Column
    show: Callable[[Chat | None], list[Any]]
    outputs: list[Any]


def build_pair_panel(services: Services, chat: gr.State) -> PairPanel:
    """Lay it out and wire it; ``chat`` has what was said last."""
    with gr.Column(visible=False, elem_id="playground-pair") as panel:
        with gr.Row(elem_id="playground-votes") as buttons:
            left = gr.Button("Left is better", size="sm", min_width=120)
            same = gr.Button("About the same", size="sm", min_width=120)
            right = gr.Button("Right is better", size="sm", min_width=120)
        count = gr.Markdown(elem_id="playground-count", elem_classes="wb-help")
        with gr.Accordion("Where the two answers differ", open=False):
            differences = gr.HTML(elem_id="playground-differences")

    def show(said: Chat | None) -> list[Any]:
        if said is None or len(said.models) < 2 or not all(said.answers):  # one was stopped before
            return [gr.Column(visible=False), gr.skip(), gr.skip(), gr.skip()]
        (left, right), (first, second) = said.models, said.answers
        return [
            gr.Column(visible=True),
            gr.Row(visible=left != right),
            votes_words(read_votes(services.runs.get(said.run_id)), said),
            differences_html(model_label(left), first, model_label(right), second),
        ]

    def voter(place: int | None) -> Any:
        """Return a handler that keeps a vote for one side, or for none."""

        @user_errors
        def vote(said: Chat | None) -> str:
            if said is None or len(said.models) < 2:
                raise WorkbenchError("There are no two answers to compare.", "Ask something first.")
            run = services.runs.get(said.run_id)
            _keep(run, Vote.on(said, SAME if place is None else said.models[place]))
            return votes_words(read_votes(run), said)

        return vote

    for button, place in ((left, 0), (same, None), (right, 1)):
        button.click(
            voter(place), chat, count, concurrency_id="vote", concurrency_limit=1, **PRIVATE
        )
    return PairPanel(panel, show, [panel, buttons, count, differences])


def votes_words(votes: Sequence[Vote], said: Chat) -> str:
    """Say what was voted on the answers shown, and how often each of the two models was better."""
    if len(set(said.models)) < 2:
        return ""
    about = Vote.on(said, SAME).about
    given = [vote.better for vote in votes if vote.about == about]
    counts = count_votes(votes).get(tuple(sorted(said.models)), Counter())
    if not counts:
        return "Which answer is better? Your vote is kept with the run."
    names = [model_label(said.models[0]), model_label(said.models[1]).lower()]
    each = [f"{name} {counts[model]}" for name, model in zip(names, said.models, strict=True)]
    yours = f"You said: {_better_words(given[0])}. " if given else ""
    return f"{yours}Votes so far: {', '.join(each)}, same {counts[SAME]}."


def _better_words(better: str) -> str:
    return "about the same" if better == SAME else f"{model_label(better).lower()} is better"


def _keep(run: Run, vote: Vote) -> None:
    try:
        add_vote(run, vote)
    except OSError as error:
        raise WorkbenchError(
            f"The vote could not be written to disk: {error.strerror or error}.",
            "Free some space and press the button again.",
        ) from error
