"""The same verbs as the page, for scripts, tests and other machines.

Exit codes: 0 done; 1 the run failed or was lost; 2 wrong input or usage; 3 the run was stopped
before its end; 130 interrupted; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from workbench import __version__
from workbench.chat import ChatProcess, ModelName
from workbench.cli_answer import add_answer_verb
from workbench.cli_data import add_data_verbs
from workbench.cli_evaluate import add_evaluate_verb
from workbench.cli_export import add_export_verb
from workbench.cli_hub import add_hub_verb
from workbench.cli_models import add_models_verb
from workbench.cli_runs import add_run_verbs
from workbench.cli_serve import add_serve_verb
from workbench.cli_training import add_training_verbs
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.runs.strength import AS_TRAINED, kept_strength, strength_words
from workbench.services import Services
from workbench.settings import Settings, prepare_page_environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run_command(
            Services.for_workspace(Settings.from_environment()), options
        )
        sys.stdout.flush()
    except WorkbenchError as error:
        print(f"workbench: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = argparse.ArgumentParser(prog="workbench", description="Fine-tune a small chat model.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    ui = verbs.add_parser("ui", help="open the workbench in the browser")
    ui.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    ui.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    ui.add_argument("--open", action="store_true", help="open the page in your browser")
    ui.set_defaults(run_command=run_ui)

    add_training_verbs(verbs)
    add_data_verbs(verbs)
    add_hub_verb(verbs)
    add_models_verb(verbs)

    add_run_verbs(verbs)
    add_evaluate_verb(verbs)
    add_answer_verb(verbs)
    add_export_verb(verbs)

    chat = verbs.add_parser("chat", help="talk to a tuned model")
    chat.add_argument("run", metavar="RUN", help="the run's id, or latest")
    chat.add_argument("--prompt", metavar="TEXT", help="ask once; without it, a conversation")
    chat.add_argument("--base", action="store_true", help="ask the model it started from")
    chat.add_argument("--json", action="store_true", help="print one JSON document")
    chat.set_defaults(run_command=run_chat)

    add_serve_verb(verbs)
    return parser


def run_ui(services: Services, options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    settings = services.settings.with_address(options.host, options.port)
    prepare_page_environment(settings)
    from workbench.ui.app import serve  # only this verb needs gradio, which takes seconds to import

    serve(Services.for_workspace(settings), open_browser=options.open)
    return 0


def run_chat(services: Services, options: argparse.Namespace) -> int:
    """Ask once, or talk until an empty line."""
    run = services.runs.get(options.run)
    model: ModelName = "base" if options.base else "tuned"
    if options.json and options.prompt is None:
        raise WorkbenchError(
            "--json needs --prompt.", 'For example --prompt "Who are you?" --json.'
        )
    chat = services.chat
    chat.open(run)
    try:
        strength = AS_TRAINED if options.base else kept_strength(run)
        if options.prompt is None:
            _converse(chat, model, strength_words(strength))
            return 0
        messages: list[Message] = [{"role": "user", "content": options.prompt}]
        if options.json:
            answer = "".join(chat.stream(model, messages))
            document = {
                "run": run.id,
                "model": model,
                "strength": strength,
                "prompt": options.prompt,
                "answer": answer,
            }
            print(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            _print_answer(chat, model, messages)
    finally:
        chat.close()
    return 0


def _converse(chat: ChatProcess, model: ModelName, note: str) -> None:
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
        answer = _print_answer(chat, model, messages)
        messages.append({"role": "assistant", "content": answer})


def _print_answer(chat: ChatProcess, model: ModelName, messages: Sequence[Message]) -> str:
    pieces: list[str] = []
    for piece in chat.stream(model, messages):
        print(piece, end="", flush=True)
        pieces.append(piece)
    print()
    return "".join(pieces)
