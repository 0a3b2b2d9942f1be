"""The verb ``evaluate``: base and tuned, or several runs, answer the same rows, and a card says which does better."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.alone import make_room_to_ask
from workbench.child_progress import Progress as Moment
from workbench.cli_data import data_path
from workbench.data.store import first_error
from workbench.errors import WorkbenchError
from workbench.evaluation.process import cancel, start, watch
from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.tasks import TASK_WORDS, TASKS
from workbench.files import write_text_atomically
from workbench.runs.checkpoints import checkpoint_instead, instead_words
from workbench.runs.store import DataPart, Run
from workbench.runs.strength import chosen_strength
from workbench.services import Services

EXIT_CODES = {"finished": 0, "failed": 1, "stopped": 3}


def add_evaluate_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    verb = verbs.add_parser(
        "evaluate", help="compare the model before and after training on rows, or several runs"
    )
    verb.add_argument("run", metavar="RUN", help="the run's id, or latest")
    verb.add_argument(
        "others",
        metavar="RUN2",
        nargs="*",
        help="more runs, to answer the same rows and be compared with the first",
    )
    verb.add_argument(
        "--data",
        metavar="FILE",
        help="ask the rows of this file (default: those that the first run held back)",
    )
    verb.add_argument(
        "--checkpoint", type=int, metavar="N", help="the first run's model after step N"
    )
    verb.add_argument("--base", action="store_true", help="only the model before training")
    verb.add_argument(
        "--limit", type=count_from_1, metavar="N", help="at most N rows, chosen by seed"
    )
    kinds = "; ".join(f"{task}: {words}" for task, words in TASK_WORDS.items())
    verb.add_argument(
        "--task",
        choices=TASKS,
        help=f"how to compare answers (default: told from the data). {kinds}",
    )
    verb.add_argument(
        "--max-tokens",
        type=count_from_1,
        metavar="N",
        help="longest answer (default: told from the data)",
    )
    verb.add_argument(
        "--judge",
        metavar="URL",
        help="send rows and answers to this OpenAI-compatible address, which says which of both models is "
        "better; a key is read from WORKBENCH_JUDGE_KEY",
    )
    verb.add_argument("--judge-model", default="", metavar="NAME", help="the judge's model")
    add_strength_option(verb)
    verb.add_argument("--report", metavar="FILE", help="write a report: one page of HTML")
    verb.add_argument("--json", action="store_true", help="print one JSON document")
    verb.set_defaults(run_command=run_evaluate)


def add_strength_option(verb: argparse.ArgumentParser) -> None:
    """Let a verb use another strength than the one kept with the run."""
    verb.add_argument(
        "--strength",
        type=float,
        metavar="X",
        help="how much of the adapter is on: 0 is the base, 1 as trained (default: what is kept with the run)",
    )


def check_base(options: argparse.Namespace) -> None:
    """Refuse what says something of the tuned model where only the base is asked.

    Raises:
        WorkbenchError: Both are asked for.
    """
    for name in ("checkpoint", "strength"):
        if options.base and getattr(options, name) is not None:
            raise WorkbenchError(f"--base and --{name} exclude each other.", "Give one of them.")


def chosen_checkpoint(run: Run, options: argparse.Namespace) -> int | None:
    """Return the step whose checkpoint is asked; ``None`` for the saved model, or where only the base is asked."""
    if options.base or options.checkpoint is not None:
        return None if options.base else int(options.checkpoint)
    if words := instead_words(run):
        print(words, file=sys.stderr)
    return checkpoint_instead(run)


def run_evaluate(services: Services, options: argparse.Namespace) -> int:
    """Ask what was not asked before, and print the card."""
    if options.base and options.others:
        raise WorkbenchError("--base asks no tuned model.", "Leave it out to compare runs.")
    if options.judge and (options.base or options.others):
        raise WorkbenchError(
            "A judge compares one run with its base.", "Name one run, without --base."
        )
    check_base(options)
    if options.report:
        checked_out_path(options.report)
    run = services.runs.get(options.run)
    request = EvaluationRequest(
        tuned=not options.base,
        checkpoint=chosen_checkpoint(run, options),
        data=_data(services, options.data) if options.data else None,
        limit=options.limit,
        answer_tokens=options.max_tokens,
        strength=chosen_strength(run, options.strength),
    )
    runs = [run, *map(services.runs.get, options.others)]
    return (_evaluate if len(runs) == 1 else _compare)(services, runs, request, options)


def checked_out_path(text: str) -> Path:
    """Return where to write; refused before hours of work, not after them.

    Raises:
        WorkbenchError: It is a folder, or lies in none, or in one that is not to be written to.
    """
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise WorkbenchError(f"Cannot write {text}.", "Check the name and the folder.")
    return path


def _evaluate(
    services: Services, runs: Sequence[Run], request: EvaluationRequest, options: argparse.Namespace
) -> int:
    # The libraries for metrics take seconds to import.
    from workbench.cli_judge import judge
    from workbench.evaluation.card import card_lines
    from workbench.evaluation.document import as_json
    from workbench.evaluation.report import report_html
    from workbench.evaluation.result import is_answered, read_evaluation

    (run,) = runs
    code = 0 if is_answered(run, request) else ask(services, run, request, quiet=options.json)
    evaluation = read_evaluation(run, request, options.task)
    if options.judge and not code:
        judge(services, evaluation, options.judge, options.judge_model, quiet=options.json)
        evaluation = read_evaluation(run, request, options.task)
    if options.json:
        print(json.dumps(as_json(evaluation), indent=2, ensure_ascii=False))
    else:
        print("\n".join(card_lines(evaluation)))
    if options.report:
        write_text_atomically(Path(options.report), report_html(evaluation))
    return code


def _compare(
    services: Services, runs: Sequence[Run], request: EvaluationRequest, options: argparse.Namespace
) -> int:
    """Ask one run after the other what it was not asked before, and print the table."""
    from workbench.evaluation.comparing import compared_requests, read_comparison
    from workbench.evaluation.comparing_document import comparison_json
    from workbench.evaluation.comparing_report import comparison_report_html
    from workbench.evaluation.comparing_words import print_comparison
    from workbench.evaluation.result import is_answered

    requests, code = compared_requests(runs, request), 0
    for run, one in requests:
        if not code and not is_answered(run, one):
            if not options.json:
                print(f"Asking {run.name}", file=sys.stderr)
            code = ask(services, run, one, quiet=options.json)
    comparison = read_comparison(requests, options.task)
    if options.json:
        print(json.dumps(comparison_json(comparison), indent=2, ensure_ascii=False))
    else:
        print_comparison(comparison)
    if options.report:
        write_text_atomically(Path(options.report), comparison_report_html(comparison))
    return code


def ask(services: Services, run: Run, request: EvaluationRequest, *, quiet: bool) -> int:
    """Ask the models, wait for the end, and return the exit code that says how it ended.

    Raises:
        WorkbenchError: A run trains, or it failed.
    """
    make_room_to_ask(services, request.directory(run))
    last = _follow(run, request, start(run, request, services.settings), quiet=quiet)
    if last.state == "failed":
        raise WorkbenchError(last.message, last.hint)
    return EXIT_CODES[last.state]


def _follow(
    run: Run, request: EvaluationRequest, child: subprocess.Popen[bytes], *, quiet: bool
) -> Moment:
    """Wait for the end and return the last word. Ctrl-C asks it to stop and keeps waiting."""
    directory = request.directory(run)
    console = Console(stderr=True, quiet=quiet)
    show = _show_bar if console.is_terminal else _show_lines
    try:
        return show(directory, child, console)
    except KeyboardInterrupt:
        cancel(run, request)
        console.print("Stopping; what was answered is kept.")
        return show(directory, child, console)


def _show_bar(directory: Path, child: subprocess.Popen[bytes], console: Console) -> Moment:
    moment = Moment()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        for moment in watch(directory, child):
            if moment.words != bar.tasks[0].description:
                bar.reset(task)
            bar.update(
                task,
                description=moment.words,
                completed=moment.done,
                total=moment.total or None,
            )
    return moment


def _show_lines(directory: Path, child: subprocess.Popen[bytes], console: Console) -> Moment:
    moment, shown = Moment(), ""
    for moment in watch(directory, child):
        count = f": {moment.done:,} of {moment.total:,}" if moment.total else ""
        line = f"{moment.words}{count}" if moment.words else ""
        if line and line != shown:
            console.print(line, markup=False, highlight=False)
            shown = line
    return moment


def _data(services: Services, text: str) -> DataPart:
    """Keep a file among the datasets; return it."""
    path = data_path(text)
    info = services.datasets.add(path, path.name)
    report = services.datasets.report(info.id)
    if not report.usable_rows:
        raise WorkbenchError(first_error(report), "`workbench check` says what is wrong with it.")
    return services.part(info)


def count_from_1(text: str) -> int:
    """Read a whole number that an option was given."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)
