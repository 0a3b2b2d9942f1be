"""The same verbs as the page, for scripts, tests and other machines.

Exit codes: 0 done; 1 the run failed or was lost; 2 wrong input or usage; 3 the run was stopped
before its end; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench import __version__
from workbench.chat import ChatProcess, ModelName
from workbench.cli_data import add_data_verbs
from workbench.cli_hub import add_hub_verb
from workbench.config import choices
from workbench.data.formats import Message
from workbench.data.store import SAMPLES
from workbench.errors import WorkbenchError
from workbench.plan import Plan
from workbench.presets import recipes
from workbench.progress import follow
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.services import Services
from workbench.settings import Settings, prepare_page_environment
from workbench.words import describe_duration

EXIT_CODES = {"failed": 1, "lost": 1, "stopped": 3}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run_command(
            Services.for_workspace(Settings.from_environment()), options
        )
    except WorkbenchError as error:
        print(f"workbench: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
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

    train = verbs.add_parser("train", help="train a model and wait for the end")
    train.add_argument(
        "--data",
        required=True,
        action="append",
        metavar="FILE[:WEIGHT]",
        help=f"a data file, or a sample: {', '.join(SAMPLES)}; may be given several times. A weight of 2 "
        "shows its rows twice an epoch, 0.5 half of them",
    )
    train.add_argument(
        "--validation",
        metavar="FILE",
        help="check with the rows of this file; else some rows of the data are held back",
    )
    train.add_argument("--preset", metavar="NAME", help=f"a starting point: {', '.join(recipes())}")
    train.add_argument("--model", metavar="ID", help="a model's id, owner/name, or a folder")
    train.add_argument("--method", metavar="NAME", help=", ".join(choices("method")))
    train.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="any setting"
    )
    train.add_argument("--name", default="", help="what to call the run")
    train.add_argument("--detach", action="store_true", help="return at once, train on")
    train.add_argument("--json", action="store_true", help="print one JSON document")
    train.set_defaults(run_command=run_train)

    add_data_verbs(verbs)
    add_hub_verb(verbs)

    runs = verbs.add_parser("runs", help="list the runs, the newest first")
    runs.add_argument("--json", action="store_true", help="print one JSON document")
    runs.set_defaults(run_command=run_runs)

    for name, function, help_text in (
        ("show", run_show, "show one run"),
        ("stop", run_stop, "stop a run; what it learned so far is saved"),
        ("chat", run_chat, "talk to a tuned model"),
    ):
        verb = verbs.add_parser(name, help=help_text)
        verb.add_argument("run", metavar="RUN", help="the run's id, or latest")
        verb.add_argument("--json", action="store_true", help="print one JSON document")
        verb.set_defaults(run_command=function)
        if name == "stop":
            verb.add_argument("--now", action="store_true", help="at once, without saving")
        if name == "chat":
            verb.add_argument(
                "--prompt", metavar="TEXT", help="ask once; without it, a conversation"
            )
            verb.add_argument("--base", action="store_true", help="ask the model it started from")
    return parser


def run_ui(services: Services, options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    settings = services.settings.with_address(options.host, options.port)
    prepare_page_environment(settings)
    from workbench.ui.app import serve  # only this verb needs gradio, which takes seconds to import

    serve(Services.for_workspace(settings), open_browser=options.open)
    return 0


def run_train(services: Services, options: argparse.Namespace) -> int:
    """Start a run and, unless detached, wait for its end."""
    values = _settings_from(options)
    config = services.configure(options.preset, values, allow_folder=True)
    validation_id = _dataset_id(services, options.validation) if options.validation else None
    weights = _weighted_datasets(services, options.data)
    data = services.choose_data(weights, validation_id)
    plan = services.plan(config, data, allow_folder=True)
    if not options.json:
        print(_plan_line(plan))
        for info, _ in data.parts:
            for problem in services.datasets.report(info.id).problems:
                print(f"Note on {info.name}: {problem.message}")
    run = services.start(plan, data, options.name)
    if options.detach:
        _print_run(services, run, options, f"Started {run.id}. `workbench show latest` tells more.")
        return 0
    snapshot = follow(services.supervisor, run, quiet=options.json)
    _print_run(services, run, options, _outcome_line(run, snapshot))
    return EXIT_CODES.get(snapshot.state, 0)


def run_runs(services: Services, options: argparse.Namespace) -> int:
    """List the runs."""
    runs = [services.runs.get(run_id) for run_id in services.runs.ids()]
    snapshots = [(run, services.supervisor.snapshot(run)) for run in runs]
    if options.json:
        print(json.dumps([_summary(run, snapshot) for run, snapshot in snapshots], indent=2))
    elif not snapshots:
        print("No runs yet. Start one with `workbench train --data sample-identity`.")
    for run, snapshot in [] if options.json else snapshots:
        steps = f"{snapshot.step}/{snapshot.total_steps}"
        print(f"{run.id:44} {snapshot.state:9} {steps:>9} steps  {run.config.model}")
    return 0


def run_show(services: Services, options: argparse.Namespace) -> int:
    """Show one run."""
    run = services.runs.get(options.run)
    snapshot = services.supervisor.snapshot(run)
    _print_run(services, run, options, _outcome_line(run, snapshot))
    return 0


def run_stop(services: Services, options: argparse.Namespace) -> int:
    """Ask a run to stop, and wait until it has saved; or end it at once."""
    run = services.runs.get(options.run)
    if options.now:
        services.supervisor.kill(run)
    else:
        services.supervisor.request_stop(run)
    while services.supervisor.snapshot(run).is_active:
        time.sleep(0.2)
    _print_run(services, run, options, _outcome_line(run, services.supervisor.snapshot(run)))
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
        if options.prompt is None:
            _converse(chat, model)
            return 0
        messages: list[Message] = [{"role": "user", "content": options.prompt}]
        if options.json:
            answer = "".join(chat.stream(model, messages))
            document = {"run": run.id, "model": model, "prompt": options.prompt, "answer": answer}
            print(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            _print_answer(chat, model, messages)
    finally:
        chat.close()
    return 0


def _converse(chat: ChatProcess, model: ModelName) -> None:
    print(f"You are talking to the {model} model. An empty line ends the conversation.")
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


def _weighted_datasets(services: Services, texts: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in texts:
        name, weight = _name_and_weight(text)
        dataset_id = _dataset_id(services, name)
        if dataset_id in weights:
            raise WorkbenchError(
                f"{name} is given twice.", "Give it once, with a weight: FILE:2 shows it twice."
            )
        weights[dataset_id] = weight
    return weights


def _name_and_weight(text: str) -> tuple[str, float]:
    """Read ``FILE`` or ``FILE:WEIGHT``; a file that has a colon in its name wins."""
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file():
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        if Path(name).is_file() or name in SAMPLES:
            raise WorkbenchError(
                f"The weight {weight!r} of {name} is no number.",
                f"Write {name}:2 or {name}:0.5, for example.",
            ) from None
        return text, 1.0  # C:\data.json, say, and whether it exists is seen later


def _dataset_id(services: Services, text: str) -> str:
    return text if text in SAMPLES else services.datasets.add(Path(text), Path(text).name).id


def _settings_from(options: argparse.Namespace) -> dict[str, str]:
    """Collect ``--set``, ``--model`` and ``--method``; the last two win."""
    values: dict[str, str] = {}
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise WorkbenchError(
                f"--set {pair!r} has no =.", "Write --set name=value, for example --set epochs=2."
            )
        values[name.strip()] = value.strip()
    given = {"model": options.model, "method": options.method}
    return values | {name: value for name, value in given.items() if value is not None}


def _plan_line(plan: Plan) -> str:
    time_needed = (
        f"about {describe_duration(plan.seconds)} ({plan.seconds_source})"
        if plan.seconds
        else f"how long is {plan.seconds_source}"
    )
    return (
        f"{plan.train_rows:,} rows to train on, {plan.validation_rows:,} held back, "
        f"{plan.total_steps:,} steps; {time_needed}."
    )


def _outcome_line(run: Run, snapshot: RunSnapshot) -> str:
    if snapshot.is_active:
        steps = f", step {snapshot.step} of {snapshot.total_steps}" if snapshot.total_steps else ""
        return f"{run.id}: {snapshot.state} ({snapshot.phase}{steps})."
    loss = f" Loss {snapshot.steps[-1].loss}." if snapshot.steps else ""
    return f"{run.id}: {snapshot.state}. {snapshot.message} {snapshot.hint}".rstrip() + loss


def _print_run(services: Services, run: Run, options: argparse.Namespace, line: str) -> None:
    if options.json:
        snapshot = services.supervisor.snapshot(run)
        print(json.dumps(_details(run, snapshot), indent=2, ensure_ascii=False))
    else:
        print(line)


def _summary(run: Run, snapshot: RunSnapshot) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "state": snapshot.state,
        "step": snapshot.step,
        "total_steps": snapshot.total_steps,
        "model": run.config.model,
        "method": run.config.method,
        "created": run.created,
    }


def _details(run: Run, snapshot: RunSnapshot) -> dict[str, Any]:
    last = snapshot.evaluations[-1] if snapshot.evaluations else None
    return _summary(run, snapshot) | {
        "directory": str(run.directory),
        "phase": snapshot.phase,
        "message": snapshot.message,
        "hint": snapshot.hint,
        "loss": snapshot.steps[-1].loss if snapshot.steps else None,
        "validation_loss": last.loss if last else None,
        "validation_loss_by_dataset": last.by_dataset if last else {},
        "general_loss": [event.loss for event in snapshot.general],
        "elapsed_seconds": snapshot.elapsed_seconds,
        "eta_seconds": snapshot.eta_seconds,
        "tokens_per_second": snapshot.tokens_per_second,
        "memory_bytes": snapshot.memory_bytes,
        "warnings": list(snapshot.warnings),
        "model_saved": snapshot.model_saved,
        "config": run.config.model_dump(),
        "reasons": run.reasons,
        "data": asdict(run.data),
    }
