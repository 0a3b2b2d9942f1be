"""How a model talks: whether it knows questions from answers, and whether it thinks first. Reads files only, no torch."""

from __future__ import annotations

import json
from pathlib import Path

from workbench.models.rendering import FALLBACK_TEMPLATE
from workbench.models.sources import ModelSource

THINKS = ("<think>", "enable_thinking")  # in the chat template of a model that thinks
NO_TEMPLATE = (
    "This model has no chat template of its own: it completes text rather than answering. The workbench writes "
    "questions and answers as lines that begin with User: and Assistant:, in training and on the Playground."
)
BASE = (
    "This model was not taught to chat: it completes text rather than answering. Questions and answers are written "
    "with the chat template that came with it, in training and on the Playground."
)
THINKING = (
    "This model thinks first: before an answer it writes its thoughts between <think> and </think>. They are shown "
    "as text and count towards the longest answer. Questions are written with its own chat template, in training and "
    "on the Playground; from answers without thoughts it learns to answer at once."
)


def manner_words(source: ModelSource, model_dir: Path) -> str:
    """Say what is unusual about asking a model; empty for one that simply answers.

    Args:
        source: The model.
        model_dir: Its folder; it need not be here.
    """
    kind = source.entry.kind if source.entry else "chat"
    if (model_dir / "config.json").exists():
        template = chat_template(model_dir)
        if template in ("", FALLBACK_TEMPLATE):
            return NO_TEMPLATE
        if kind == "chat" and any(word in template for word in THINKS):
            return THINKING
    return {"base": BASE, "thinking": THINKING, "chat": ""}[kind]


def completes_only(source: ModelSource, model_dir: Path) -> str:
    """Say what to know before training a model that was not taught to chat; empty for any other."""
    words = manner_words(source, model_dir)
    return words if words in (BASE, NO_TEMPLATE) else ""


def chat_template(model_dir: Path) -> str:
    """Return a model's chat template as its files have it, the default one of several; empty where there is none."""
    path = model_dir / "chat_template.jinja"
    if path.exists():
        return path.read_text(encoding="utf-8")
    path = model_dir / "tokenizer_config.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    template = found.get("chat_template") or ""
    if isinstance(template, list):  # several, by name
        named = {one["name"]: one["template"] for one in template}
        template = named.get("default", "")
    return str(template)
