"""Playground tab: ask the tuned model and, beside it, the model it started from."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from typing import Any

import gradio as gr

from workbench.chat import ModelName
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.views import chat_text, run_label

GENERAL_QUESTION = "What is the capital of France?"
SUGGESTIONS = 4

History = list[Message]


def build_playground_tab(services: Services, page: gr.Blocks, tab: gr.Tab) -> None:
    """Lay the tab out and wire it."""
    run_choice = gr.Dropdown(
        finished_runs(services),
        label="Tuned model",
        info="Every run that has saved a model.",
        elem_id="playground-run",
    )
    with gr.Row():
        tuned = _chatbot("Tuned model", "playground-tuned")
        base = _chatbot("Before training", "playground-base")
    note = gr.Markdown(elem_id="playground-note", elem_classes="wb-help")
    with gr.Row(equal_height=True):
        question = gr.Textbox(
            show_label=False,
            placeholder="Ask both models something, then press Enter",
            max_lines=6,
            scale=6,
            elem_id="playground-question",
        )
        send = gr.Button(
            "Send", variant="primary", scale=1, min_width=90, elem_id="playground-send"
        )
        stop = gr.Button("Stop", scale=1, min_width=90, elem_id="playground-stop")
        clear = gr.Button("Clear", scale=1, min_width=90, elem_id="playground-clear")
    suggestions = gr.Dataset(
        components=[question], samples=[[GENERAL_QUESTION]], label="Try one of these", type="values"
    )
    with gr.Accordion("Answer settings", open=False), gr.Row():
        temperature = gr.Slider(
            0,
            1.5,
            value=0,
            step=0.1,
            label="Temperature",
            info="0 always gives the likeliest answer; higher varies more.",
        )
        max_tokens = gr.Slider(
            16,
            1024,
            value=200,
            step=8,
            label="Longest answer (tokens)",
            info="About 4 letters each.",
        )

    @user_errors
    def answer(
        run_id: str | None,
        text: str,
        tuned_history: History,
        base_history: History,
        heat: float,
        longest: int,
    ) -> Iterator[Any]:
        if not run_id:
            raise WorkbenchError(
                "There is no tuned model yet.", "Train one in the Train tab first."
            )
        if not text.strip():
            raise WorkbenchError("The question is empty.", "Write something to ask.")
        histories: dict[ModelName, History] = {
            "tuned": _with_question(tuned_history, text),
            "base": _with_question(base_history, text),
        }
        loaded = services.chat.run_id == run_id
        words = "" if loaded else "Loading both models, about 10 seconds…"
        yield _shown(histories["tuned"]), _shown(histories["base"]), "", words
        services.open_chat(services.runs.get(run_id))
        which: ModelName
        for which in ("tuned", "base"):
            words = (
                "The tuned model answers…"
                if which == "tuned"
                else "The model before training answers…"
            )
            for shown in _stream(services, which, histories[which], heat, longest):
                histories[which] = shown
                yield _shown(histories["tuned"]), _shown(histories["base"]), "", words
        yield _shown(histories["tuned"]), _shown(histories["base"]), "", ""

    def describe(run_id: str | None) -> list[Any]:
        """Name the columns after the models, and offer questions from the run's own data."""
        if not run_id:
            return [gr.skip()] * 3
        run = services.runs.get(run_id)
        questions = [GENERAL_QUESTION, *services.example_questions(run, SUGGESTIONS)]
        return [
            gr.Chatbot([], label=f"Tuned: {run.name}"),
            gr.Chatbot([], label=f"Before training: {run.config.model}"),
            gr.Dataset(samples=[[text] for text in questions]),
        ]

    def reopen(chosen: str | None) -> Any:
        """List the runs that have a model now; keep the choice, else take the newest."""
        choices = finished_runs(services)
        ids = [run_id for _, run_id in choices]
        return gr.Dropdown(choices, value=chosen if chosen in ids else next(iter(ids), None))

    inputs = [run_choice, question, tuned, base, temperature, max_tokens]
    outputs = [tuned, base, question, note]
    asked = [
        trigger(
            answer,
            inputs,
            outputs,
            concurrency_limit=1,
            concurrency_id="chat",
            **PRIVATE,
        )
        for trigger in (send.click, question.submit)
    ]
    stop.click(lambda: "", None, note, cancels=asked, **QUIET)
    clear.click(lambda: ([], [], ""), None, [tuned, base, note], cancels=asked, **QUIET)
    described = [tuned, base, suggestions]
    gr.on([page.load, run_choice.change], describe, run_choice, described, **FOLLOW)
    suggestions.click(lambda sample: sample[0], suggestions, question, **QUIET)
    tab.select(reopen, run_choice, run_choice, **QUIET)


def finished_runs(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every run that saved a model, the newest first."""
    runs = [services.runs.get(run_id) for run_id in services.runs.ids()]
    return [(run_label(run), run.id) for run in runs if run.model_dir.is_dir()]


def _chatbot(label: str, element_id: str) -> gr.Chatbot:
    return gr.Chatbot(
        label=label,
        height=360,
        render_markdown=False,
        allow_tags=False,
        buttons=["copy"],
        placeholder="The answer appears here.",
        elem_id=element_id,
    )


def _with_question(history: History, text: str) -> History:
    messages: History = [{"role": m["role"], "content": _text(m["content"])} for m in history or []]
    return [*messages, {"role": "user", "content": text}]


def _shown(history: History) -> History:
    return [{"role": m["role"], "content": chat_text(m["content"])} for m in history]


def _text(content: Any) -> str:
    """Undo ``chat_text``; gradio hands a message over as a list of blocks."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return unescape("".join(block["text"] for block in blocks if block.get("type") == "text"))


def _stream(
    services: Services, which: ModelName, history: History, heat: float, longest: int
) -> Iterator[History]:
    answer = ""
    pieces = services.chat.stream(
        which,
        history,
        temperature=heat,
        max_tokens=int(longest),
        top_p=0.95 if heat else 1.0,
        seed=0,
    )
    for piece in pieces:
        answer += piece
        yield [*history, {"role": "assistant", "content": answer}]
    if not answer.strip():
        yield [*history, {"role": "assistant", "content": "(The model gave an empty answer.)"}]
