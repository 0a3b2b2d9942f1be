"""The verb that talks to a run's model in the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from workbench.chat import ModelName, Reply, learned_model
from workbench.config import ANSWER_TOKENS
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.runs.checkpoints import instead_words, model_of_step
from workbench.runs.store import Run
from workbench.runs.strength import AS_TRAINED, kept_strength, strength_words
from workbench.services import Services


def add_chat_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    chat = verbs.add_parser("chat", help="talk to a tuned model")
    chat.add_argument("run", metavar="RUN", help="the run's id, or latest")
    chat.add_argument("--prompt", metavar="TEXT", help="ask once; without it, a conversation")
    who = chat.add_mutually_exclusive_group()
    who.add_argument("--base", action="store_true", help="ask the model it started from")
    who.add_argument("--checkpoint", type=int, metavar="N", help="ask the model after step N")
    chat.add_argument("--json", action="store_true", help="print one JSON document")
    chat.set_defaults(run_command=run_chat)


def run_chat(services: Services, options: argparse.Namespace) -> int:
    """Ask once, or talk until an empty line."""
    run = services.runs.get(options.run)
    model = _asked_model(run, options)
    if options.json and options.prompt is None:
        raise WorkbenchError(
            "--json needs --prompt.", 'For example --prompt "Who are you?" --json.'
        )
    try:
        strength = AS_TRAINED if options.base else kept_strength(run)
        if options.prompt is None:
            converse(services, run, model, strength_words(strength))
            return 0
        messages: list[Message] = [{"role": "user", "content": options.prompt}]
        reply = _ask(services, run, model, messages, shows=not options.json)
        if options.json:
            document = {
                "run": run.id,
                "model": model,
                "strength": strength,
                "prompt": options.prompt,
                "answer": reply.text,
                "finish_reason": reply.finish_reason,
                "note": reply.note,
            }
            print(json.dumps(document, indent=2, ensure_ascii=False))
    finally:
        services.chat.close()
    return 0


def _asked_model(run: Run, options: argparse.Namespace) -> ModelName:
    """Return who is asked, and say it where that is not what one expects."""
    if options.base:
        return "base"
    if options.checkpoint is not None:
        model_of_step(run, options.checkpoint)  # refused before anything is loaded
        return f"step-{options.checkpoint}"
    if words := instead_words(run):
        print(words, file=sys.stderr)
    return learned_model(run)


def converse(services: Services, run: Run, model: ModelName, note: str) -> None:
    """Talk until an empty line; models that left the memory meanwhile are loaded again."""
    with services.chat_with(run):
        words = f"You are talking to the {model} model. An empty line ends the conversation. {note}"
        print(words.rstrip())
    messages: list[Message] = []
    while True:
        try:
            question = input("You: ").strip()
        except EOFError:
            return
        if not question:
            return
        messages.append({"role": "user", "content": question})
        if not services.chat.run_id:
            print(f"{services.chat.why_gone} They are loaded again.", file=sys.stderr)
        reply = _ask(services, run, model, messages, shows=True)
        messages.append({"role": "assistant", "content": reply.text})


def _ask(
    services: Services, run: Run, model: ModelName, messages: Sequence[Message], *, shows: bool
) -> Reply:
    """Return a whole answer; ``shows`` prints it as it is written, and what there is to know besides."""
    reply, shown = Reply(), 0
    with services.chat_with(run) as chat:
        for reply in chat.replies(model, messages, max_tokens=ANSWER_TOKENS):
            if shows:
                print(reply.text[shown:], end="", flush=True)
                shown = len(reply.text)
    if shows:
        print()
        if reply.note:
            print(reply.note, file=sys.stderr)
        if reply.finish_reason == "length":
            print("The answer was cut at its longest length.", file=sys.stderr)
    return reply
