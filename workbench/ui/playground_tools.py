"""Playground tab, Advanced: see exactly what a model reads, and keep a conversation."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr
from gradio.components import Component

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.good_answers import keep_answer, kept_words
from workbench.runs.chats import Chat, chat_document
from workbench.services import Services
from workbench.ui.guard import PRIVATE, QUIET, user_errors
from workbench.ui.playground_talk import (
    SIDES,
    Side,
    Talk,
    answered,
    sampling_of,
    system_message,
)
from workbench.ui.saving import save_on_click


def build_tools(
    services: Services,
    run_choice: gr.Dropdown,
    question: gr.Textbox,
    talk: gr.State,
    chat: gr.State,
    settings: dict[str, Component],
    note: gr.Markdown,
) -> None:
    """Lay them out and wire them; the arguments are the components they read, and where they tell."""
    with gr.Row():
        show = gr.Button("Show the exact prompt", size="sm", elem_id="playground-show-prompt")
        save = gr.Button("Save the conversation (JSON)", size="sm", elem_id="playground-save")
        keep: dict[Side, gr.Button] = {
            side: gr.Button(
                f"Add the last {side} answer to your data",
                size="sm",
                elem_id=f"playground-keep-{side}",
            )
            for side in SIDES
        }
    prompt = gr.Textbox(
        label="What the model reads",
        lines=6,
        max_lines=20,
        buttons=["copy"],
        interactive=False,
        visible=False,
        elem_id="playground-prompt",
    )

    @user_errors
    def show_prompt(run_id: str | None, text: str, said: Talk, **values: Any) -> list[Any]:
        if not run_id:
            raise WorkbenchError("There is no tuned model yet.", "Train one first.")
        messages = _next_prompt(said, text, values.get("system"))
        with services.chat_with(services.runs.get(run_id)) as chat:
            words, tokens, left_out = chat.prompt_text(messages, **sampling_of(values))
        label = f"What the left model reads before it answers: {tokens:,} tokens"
        return [gr.Textbox(words, label=label, visible=True), left_out]

    def make_json(said: Chat | None) -> tuple[str, str]:
        if said is None:
            raise WorkbenchError("There is no conversation to save yet.", "Ask something first.")
        document = chat_document(services.runs.get(said.run_id), said)
        return "conversation.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def keeper(side: Side) -> Any:
        """Return a handler that keeps what was said on one side."""

        @user_errors
        def keep_last(said: Talk, system: str | None) -> str:
            messages = answered(said.side(side))
            if not messages or messages[-1] != said.side(side)[-1]:
                raise WorkbenchError(
                    f"There is no answer on the {side} yet.", "Ask something first."
                )
            return kept_words(keep_answer(services, [*system_message(system), *messages]))

        return keep_last

    show.click(
        show_prompt,
        [run_choice, question, talk],
        [prompt, note],
        inputs_kwargs=settings,
        **QUIET,
    )
    save_on_click(save, make_json, chat)
    for side, button in keep.items():
        button.click(keeper(side), [talk, settings["system"]], note, concurrency_limit=1, **PRIVATE)


def _next_prompt(said: Talk, text: str, system: str | None) -> list[Message]:
    """Return what would be read next: with the question that is typed, or up to the last one."""
    if text.strip():
        said = said.with_question(text, {"left": "base"})
    elif not said.left:
        raise WorkbenchError("There is no question yet.", "Write one, or ask something first.")
    *earlier, question, _ = said.left
    return [*system_message(system), *answered(earlier), question]
