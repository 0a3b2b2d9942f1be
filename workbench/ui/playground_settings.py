"""Playground tab, Advanced: how the models answer."""

from __future__ import annotations

import gradio as gr
from gradio.components import Component

from workbench.config import ANSWER_TOKENS


def build_answer_settings() -> dict[str, Component]:
    """Lay them out; by the names that ``playground_talk`` reads, all but the strength."""
    system = gr.Textbox(
        label="System prompt",
        info="Said to the models before everything else; use the one you trained with, if any.",
        max_lines=6,
        elem_id="playground-system",
    )
    with gr.Row():
        temperature = gr.Slider(
            0, 1.5, value=0, step=0.1, label="Temperature",
            info="0 always gives the likeliest answer; higher varies more.",
            min_width=230, elem_id="playground-temperature",
        )  # fmt: skip
        max_tokens = gr.Slider(
            16, 1024, value=ANSWER_TOKENS, step=8, label="Longest answer (tokens)",
            info="A token is about 4 letters.", min_width=230, elem_id="playground-max-tokens",
        )  # fmt: skip
        top_p = gr.Slider(
            0.05, 1, value=0.95, step=0.05, label="Top-p",
            info="Only the likeliest tokens that make up this share; with a temperature.",
            min_width=230, elem_id="playground-top-p",
        )  # fmt: skip
    with gr.Row():
        top_k = gr.Slider(
            0, 200, value=0, step=1, label="Top-k",
            info="Only this many of the likeliest tokens; 0 for all.", min_width=230, elem_id="playground-top-k",
        )  # fmt: skip
        repetition_penalty = gr.Slider(
            1, 1.5, value=1, step=0.05, label="Repetition penalty",
            info="Above 1, words that were there already become less likely.",
            min_width=230, elem_id="playground-repetition",
        )  # fmt: skip
        seed = gr.Textbox(  # a Number would turn "empty" into 0
            label="Seed", max_lines=1, min_width=230, elem_id="playground-seed",
            info="The same number gives the same answer again; empty for another one.",
        )  # fmt: skip
    return {
        "system": system,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "top_p": top_p,
        "top_k": top_k,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
