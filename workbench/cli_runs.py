"""The verbs that show runs and act on them, and how the command line tells of runs."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from workbench.copies import continue_run
from workbench.deleting import delete_run
from workbench.progress import follow
from workbench.runs.checkpoints import complete_checkpoints
from workbench.runs.logs import read_log
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.runs.strength import kept_strength, strength_words
from workbench.runs.votes import SAME, count_votes, read_votes
from workbench.services import Services

LOG_SECONDS = 0.5
EXIT_CODES = {"failed": 1, "lost": 1, "stopped": 3}


def add_run_verbs(verbs: Any) -> None:
    """Describe the commands to the parser."""
    runs = verbs.add_parser("runs", help="list the runs, the newest first")
    runs.add_argument("--json", action="store_true", help="print one JSON document")
    runs.set_defaults(run_command=run_runs)

    def verb(name: str, function: Callable[..., int], help_text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text)
        parser.add_argument("run", metavar="RUN", help="the run's id, or latest")
        parser.add_argument("--json", action="store_true", help="print one JSON document")
        parser.set_defaults(run_command=function)
        return parser

    line = verbs.add_parser("queue", help="list the runs that wait in line, the next one first")
    line.add_argument("--json", action="store_true", help="print one JSON document")
    line.set_defaults(run_command=run_queue)
    verb("show", run_show, "show one run")
    logs = verbs.add_parser("logs", help="print what a run's process and libraries have printed")
    logs.add_argument("run", metavar="RUN", help="the run's id, or latest")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    logs.set_defaults(run_command=run_logs, json=False)
    stop = verb("stop", run_stop, "stop a run; what it learned so far is saved")
    stop.add_argument("--now", action="store_true", help="at once, without saving")
    resume = verb("resume", run_resume, "let a run that ended early go on from its checkpoint")
    more = verb("continue", run_continue, "train what a run learned for more epochs, as a new run")
    more.add_argument("--epochs", type=float, default=1.0, help="how many more (default: 1)")
    for waits in (resume, more):
        waits.add_argument("--detach", action="store_true", help="return at once, train on")
    move = verb("move", run_move, "move a waiting run in the line")
    move.add_argument("--by", type=int, default=-1, help="-1 is one place sooner (the default)")
    label = verb("label", run_label, "change a run's name, tags or note")
    label.add_argument("--name", help="what to call it")
    label.add_argument("--tags", help="words separated by commas")
    label.add_argument("--note", help="anything worth remembering")
    verb("delete", run_delete, "delete a run and all it saved")


def run_runs(services: Services, options: argparse.Namespace) -> int:
    """List the runs."""
    runs = services.runs.all()
    _print_list(services, runs, options)
    if not runs and not options.json:
        print("No runs yet. Start one with `workbench train --data sample-identity`.")
    return 0


def run_queue(services: Services, options: argparse.Namespace) -> int:
    """List the runs that wait."""
    line = services.supervisor.line()
    _print_list(services, line, options)
    if not line and not options.json:
        print("No run waits.")
    return 0


def _print_list(services: Services, runs: Sequence[Run], options: argparse.Namespace) -> None:
    snapshots = [(run, services.supervisor.summary(run)) for run in runs]
    if options.json:
        print(json.dumps([summary(run, snapshot) for run, snapshot in snapshots], indent=2))
        return
    for run, snapshot in snapshots:
        steps = f"{snapshot.step}/{snapshot.total_steps}"
        print(f"{run.id:44} {snapshot.state:9} {steps:>9} steps  {run.config.model}")


def run_logs(services: Services, options: argparse.Namespace) -> int:
    """Print a run's log, and with ``--follow`` what is added until the run has ended."""
    run = services.runs.get(options.run)
    offset, goes_on = 0, True
    while goes_on:
        # Look at the run first: what it prints before it ends is then read, too.
        goes_on = options.follow and services.supervisor.summary(run).is_active
        text, offset = read_log(run, offset=offset)
        print(text, end="", flush=True)
        if goes_on:
            time.sleep(LOG_SECONDS)
    return 0


def run_show(services: Services, options: argparse.Namespace) -> int:
    """Show one run."""
    _print_now(services, services.runs.get(options.run), options)
    return 0


def run_stop(services: Services, options: argparse.Namespace) -> int:
    """Ask a run to stop, and wait until it has saved; or end it at once."""
    run = services.runs.get(options.run)
    services.supervisor.request_stop(run)
    if options.now:
        services.supervisor.kill(run)
    while services.supervisor.summary(run).is_active:
        services.supervisor.advance()  # ends a process that does not answer
        time.sleep(0.2)
    services.supervisor.advance()  # a process that was killed cannot start the next in line
    _print_now(services, run, options)
    return 0


def run_resume(services: Services, options: argparse.Namespace) -> int:
    """Let a run go on."""
    run = services.runs.get(options.run)
    services.resume(run)
    return wait_for(services, run, options)


def run_continue(services: Services, options: argparse.Namespace) -> int:
    """Train on from where a run ended, as a new run."""
    run = continue_run(services, services.runs.get(options.run), options.epochs)
    return wait_for(services, run, options)


def run_move(services: Services, options: argparse.Namespace) -> int:
    """Move a run in the line."""
    run = services.runs.get(options.run)
    services.supervisor.move(run, options.by)
    _print_now(services, run, options)
    return 0


def run_label(services: Services, options: argparse.Namespace) -> int:
    """Change what a run is called."""
    run = services.runs.get(options.run)
    tags = run.tags if options.tags is None else options.tags.split(",")
    run = services.runs.label(
        run,
        run.name if options.name is None else options.name,
        tags,
        run.note if options.note is None else options.note,
    )
    _print_now(services, run, options)
    return 0


def run_delete(services: Services, options: argparse.Namespace) -> int:
    """Delete a run."""
    run = services.runs.get(options.run)
    delete_run(services, run)
    print(json.dumps({"deleted": run.id}) if options.json else f"Deleted {run.id}.")
    return 0


def wait_for(services: Services, run: Run, options: argparse.Namespace) -> int:
    """Follow a run to its end unless detached; return the exit code that says how it ended."""
    if options.detach:
        print_run(services, run, options, f"Started {run.id}. `workbench show latest` tells more.")
        return 0
    snapshot = follow(services.supervisor, run, quiet=options.json)
    print_run(services, run, options, outcome_line(run, snapshot))
    if run.evaluation_due_path.exists() and not options.json:
        command = f"workbench evaluate {run.id} --limit {run.config.evaluate_after}"
        print(f"It is evaluated in the background; `{command}` shows what came out.")
    return EXIT_CODES.get(snapshot.state, 0)


def outcome_line(run: Run, snapshot: RunSnapshot) -> str:
    """Say in one line how a run is or how it ended."""
    if snapshot.state == "queued":
        return f"{run.id}: {snapshot.state}. {snapshot.message}"
    if snapshot.is_active:
        steps = f", step {snapshot.step} of {snapshot.total_steps}" if snapshot.total_steps else ""
        return f"{run.id}: {snapshot.state} ({snapshot.phase}{steps})."
    line = f"{run.id}: {snapshot.state}. {snapshot.message} {snapshot.hint}".rstrip()
    loss = _loss_words(snapshot.steps[-1].loss) if snapshot.steps else ""
    return " ".join(words for words in (line, loss, strength_words(kept_strength(run))) if words)


def _loss_words(loss: float | None) -> str:
    return "The loss was not a number." if loss is None else f"Loss {loss}."


def print_run(services: Services, run: Run, options: argparse.Namespace, line: str) -> None:
    """Print the line, or with ``--json`` everything about the run."""
    if options.json:
        snapshot = services.supervisor.snapshot(run)
        print(json.dumps(_details(run, snapshot), indent=2, ensure_ascii=False))
    else:
        print(line)


def _print_now(services: Services, run: Run, options: argparse.Namespace) -> None:
    print_run(services, run, options, outcome_line(run, services.supervisor.snapshot(run)))


def summary(run: Run, snapshot: RunSnapshot) -> dict[str, Any]:
    """Return what a list of runs has of each."""
    return {
        "id": run.id,
        "name": run.name,
        "status": snapshot.state,
        "step": snapshot.step,
        "total_steps": snapshot.total_steps,
        "model": run.config.model,
        "method": run.config.method,
        "created": run.created,
        "place": snapshot.place,
        "parent": run.parent,
        "tags": list(run.tags),
        "note": run.note,
    }


def _details(run: Run, snapshot: RunSnapshot) -> dict[str, Any]:
    last = snapshot.evaluations[-1] if snapshot.evaluations else None
    best = snapshot.best_check(run.config.best_by)
    return summary(run, snapshot) | {
        "directory": str(run.directory),
        "strength": kept_strength(run),
        "model_dir": str(run.model_dir) if run.model_dir.is_dir() else None,
        "phase": snapshot.phase,
        "message": snapshot.message,
        "hint": snapshot.hint,
        "loss": snapshot.steps[-1].loss if snapshot.steps else None,
        "eval_loss": last.loss if last else None,
        "eval_loss_by_dataset": last.by_dataset if last else {},
        "best_step": best.step if best else None,
        "general_loss": [event.loss for event in snapshot.general],
        "elapsed_seconds": snapshot.elapsed_seconds,
        "eta_seconds": snapshot.eta_seconds,
        "tokens_per_second": snapshot.tokens_per_second,
        "memory_bytes": snapshot.memory_bytes,
        "warnings": list(snapshot.warnings),
        "votes": [
            {"models": models, "better": {name: better[name] for name in (*models, SAME)}}
            for models, better in count_votes(read_votes(run)).items()
        ],
        "samples": [asdict(event) for event in snapshot.samples],
        "checkpoints": [
            checkpoint.step for checkpoint in complete_checkpoints(run.checkpoints_dir)
        ],
        "started_at": snapshot.started_at,
        "finished_at": snapshot.finished_at,
        "error": snapshot.message if snapshot.state in ("failed", "lost") else None,
        "cause": snapshot.finished.cause if snapshot.finished else "",
        "model_saved": snapshot.model_saved,
        "config": run.config.model_dump(),
        "reasons": run.reasons,
        "data": asdict(run.data),
    }
