"""Playground tab, Advanced: how much of the training is used, and keeping that for evaluation and export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.runs.store import Run
from workbench.runs.strength import AS_TRAINED, can_scale, keep_strength, kept_strength
from workbench.services import Services
from workbench.ui.guard import PRIVATE, user_errors
from workbench.ui.run_choices import run_to_ask


@dataclass(frozen=True)
class StrengthPanel:
    """The slider, the button that keeps it, and what is kept.

    Attributes:
        slider: Its value counts for the next answer.
        row: All of it.
        kept: What is kept, in words.
    """

    slider: gr.Slider
    row: gr.Row
    kept: gr.Markdown

    @property
    def outputs(self) -> list[Any]:
        """What ``show`` returns values for."""
        return [self.slider, self.row, self.kept]

    def show(self, run: Run) -> list[Any]:
        """Begin with what is kept with a run; hidden where its method has no strength."""
        strength = kept_strength(run)
        return [gr.Slider(value=strength), gr.Row(visible=can_scale(run)), kept_words(strength)]


def build_strength_panel(services: Services, run_choice: gr.Dropdown) -> StrengthPanel:
    """Lay it out and wire it."""
    with gr.Row(equal_height=True) as row:
        slider = gr.Slider(
            0, 1.5, value=AS_TRAINED, step=0.05, label="Strength of the training",
            info="0 is the model before, 1 as trained, more exaggerates.",
            min_width=230, elem_id="playground-strength",
        )  # fmt: skip
        with gr.Column(min_width=230):
            keep = gr.Button("Keep this strength", size="sm", elem_id="playground-keep-strength")
            kept = gr.Markdown(elem_id="playground-kept-strength", elem_classes="wb-help")

    @user_errors
    def keep_chosen(run_id: str | None, strength: float) -> str:
        run = run_to_ask(services, run_id)
        keep_strength(run, strength)
        return kept_words(kept_strength(run))

    keep.click(keep_chosen, [run_choice, slider], kept, **PRIVATE)
    return StrengthPanel(slider, row, kept)


def kept_words(strength: float) -> str:
    """Say what the strength that is kept with a run is used for, as Markdown."""
    as_trained = ", as trained" if strength == AS_TRAINED else ""
    return (
        f"Kept with this run: **{strength:g}**{as_trained}. The next chat, *Evaluate* and *Take it home* use what "
        "is kept, for every checkpoint too."
    )
