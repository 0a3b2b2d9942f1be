"""Follow a run in the terminal: a progress bar where there is a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.runs.supervisor import Supervisor
from workbench.words import describe_bytes

POLL_SECONDS = 0.5


def follow(supervisor: Supervisor, run: Run, *, quiet: bool) -> RunSnapshot:
    """Wait for a run's end and return how it ended. Ctrl-C asks it to stop and keeps waiting.

    Args:
        supervisor: Of the run.
        run: What to follow.
        quiet: Show nothing.
    """
    console = Console(stderr=True, quiet=quiet)
    follower = _follow_bar if console.is_terminal else _follow_lines
    asked_to_stop = False
    while True:
        try:
            ended = follower(supervisor, run, console)
            supervisor.advance()  # a process that was killed cannot start the next in line
            return ended
        except KeyboardInterrupt:
            if asked_to_stop:  # the second Ctrl-C leaves; the run goes on saving by itself
                raise
            asked_to_stop = True
            supervisor.request_stop(run)
            console.print("Stopping after this step; what was learned is saved.")


def _follow_bar(supervisor: Supervisor, run: Run, console: Console) -> RunSnapshot:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=None, detail="")
        while True:
            supervisor.advance()
            snapshot = supervisor.snapshot(run)
            done, total = _measure(snapshot)
            progress.update(
                task,
                description=_phase(snapshot),
                completed=done,
                total=total or None,
                detail=_detail(snapshot),
            )
            if not snapshot.is_active:
                return snapshot
            time.sleep(POLL_SECONDS)


def _follow_lines(supervisor: Supervisor, run: Run, console: Console) -> RunSnapshot:
    shown = ""
    while True:
        supervisor.advance()
        snapshot = supervisor.snapshot(run)
        line = f"{_phase(snapshot)} {_detail(snapshot)}".strip()
        if line != shown and not console.quiet:
            print(line, file=sys.stderr, flush=True)
            shown = line
        if not snapshot.is_active:
            return snapshot
        time.sleep(POLL_SECONDS)


def _phase(snapshot: RunSnapshot) -> str:
    return f"number {snapshot.place} in the line" if snapshot.place else snapshot.phase


def _measure(snapshot: RunSnapshot) -> tuple[int, int]:
    """Return how much is done of how much in this phase; 0 of 0 when it cannot be said."""
    if snapshot.phase == "downloading" and snapshot.download:
        return snapshot.download.done_bytes, snapshot.download.total_bytes
    if snapshot.phase in ("training", "saving"):
        return snapshot.step, snapshot.total_steps
    return 0, 0


def _detail(snapshot: RunSnapshot) -> str:
    if snapshot.phase == "downloading" and snapshot.download:
        download = snapshot.download
        size = f"{describe_bytes(download.done_bytes)} of {describe_bytes(download.total_bytes)}"
        return download.message or size
    if snapshot.steps:
        last = snapshot.steps[-1]
        loss = "not a number" if last.loss is None else f"{last.loss:.3f}"
        return f"step {last.step} of {snapshot.total_steps}, loss {loss}"
    return ""
