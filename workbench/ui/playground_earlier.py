"""Playground tab: the conversations that are kept with a run, to open again or to delete."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from workbench.runs.chats import Chat, find_chats, get_chat, keep_chat
from workbench.runs.store import Run
from workbench.services import Services
from workbench.ui.guard import PRIVATE, QUIET, user_errors
from workbench.ui.views import plain

TITLE_CHARACTERS = 60
HELP = "They are kept with the run. Choose one to go on with it; Clear begins a new one."


@dataclass(frozen=True)
class EarlierPanel:
    """The list of conversations.

    Attributes:
        services: Where the runs are.
        choice: The conversation shown, by its id.
        really: Deletes it, once that was asked.
        outputs: What ``show`` returns values for.
    """

    services: Services
    choice: gr.Dropdown
    really: gr.Button
    outputs: list[Any]

    def show(self, run_id: str | None, said: Chat | None) -> list[Any]:
        """List a run's conversations, with the one chosen that is shown; ask nothing."""
        chats, damaged = find_chats(self.services.runs.get(run_id)) if run_id else ([], [])
        ids = [chat.id for chat in chats]
        chosen = said.id if said and said.id in ids else None
        return [
            gr.Dropdown(
                [(chat_label(chat), chat.id) for chat in chats],
                value=chosen,
                info=f"{HELP} {damaged_words(damaged)}".rstrip(),
                visible=bool(chats or damaged),
            ),
            gr.Button(visible=chosen is not None),
            gr.Markdown(visible=False),
            gr.Row(visible=False),
        ]


def build_earlier_panel(services: Services, run_choice: gr.Dropdown) -> EarlierPanel:
    """Lay it out and wire the question before something is deleted."""
    with gr.Row(equal_height=True):
        choice = gr.Dropdown(
            [],
            label="Earlier conversations",
            info=HELP,
            visible=False,
            scale=6,
            elem_id="playground-earlier",
        )
        delete = gr.Button(
            "Delete …", visible=False, scale=0, min_width=110, elem_id="playground-delete"
        )
    question = gr.Markdown(visible=False, elem_id="playground-delete-question")
    with gr.Row(visible=False) as answers:
        really = gr.Button("Delete it", variant="stop", size="sm", elem_id="playground-really")
        keep = gr.Button("Keep it", size="sm")

    @user_errors
    def ask(run_id: str, chat_id: str) -> list[Any]:
        chat = get_chat(services.runs.get(run_id), chat_id)
        words = f"**Delete the conversation “{plain(short_title(chat))}”?** It cannot be undone."
        return [gr.Markdown(words, visible=True), gr.Row(visible=True)]

    def hide() -> list[Any]:
        return [gr.Markdown(visible=False), gr.Row(visible=False)]

    delete.click(ask, [run_choice, choice], [question, answers], **PRIVATE)
    keep.click(hide, None, [question, answers], **QUIET)
    return EarlierPanel(services, choice, really, [choice, delete, question, answers])


def keep_said(run: Run, said: Chat, before: Chat | None) -> tuple[Chat, str]:
    """Keep a chat in the place of what it was before, and return it with what to say if that failed."""
    if before:
        said = replace(said, id=before.id, changed=before.changed)
    try:
        return keep_chat(run, said), ""
    except OSError as error:
        return said, f"This conversation could not be kept: {error.strerror or error}."


def chat_label(chat: Chat) -> str:
    """Name a conversation in a list: its first question, and when it was last gone on with."""
    return f"{short_title(chat)} ({time.strftime('%d %b %H:%M:%S', time.localtime(chat.changed))})"


def short_title(chat: Chat) -> str:
    """Return the first question on one line, cut when it is long."""
    title = " ".join(chat.title.split())
    return title if len(title) <= TITLE_CHARACTERS else f"{title[: TITLE_CHARACTERS - 1]}…"


def damaged_words(names: Sequence[str]) -> str:
    """Say which files cannot be read; nothing when all can."""
    if not names:
        return ""
    files = "1 file is" if len(names) == 1 else f"{len(names):,} files are"
    return f"{files} damaged and left out: {', '.join(names)}."
