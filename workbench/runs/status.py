"""What a run is doing, derived from its events and whether its process lives. Pure; never stored."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.runs.events import (
    DownloadEvent,
    EvaluationEvent,
    Event,
    FinishedEvent,
    GeneralEvent,
    PhaseEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
)

State = Literal[
    "queued", "starting", "running", "stopping", "finished", "stopped", "failed", "lost"
]

ACTIVE_STATES = frozenset({"queued", "starting", "running", "stopping"})
RECENT_STEPS = 20  # over how many steps speed and remaining time are measured


@dataclass(frozen=True)
class RunSnapshot:
    """One moment of a run, as the page and the command line show it.

    ``eta_seconds``, ``tokens_per_second`` and ``memory_bytes`` are ``None`` until measured.
    """

    state: State
    phase: str
    message: str
    hint: str
    step: int
    total_steps: int
    eta_seconds: float | None
    elapsed_seconds: float
    tokens_per_second: float | None
    memory_bytes: int | None
    download: DownloadEvent | None
    start: StartEvent | None
    steps: tuple[StepEvent, ...]
    evaluations: tuple[EvaluationEvent, ...]
    general: tuple[GeneralEvent, ...]
    warnings: tuple[str, ...]
    model_saved: bool

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES


def derive_status(
    events: Sequence[Event],
    *,
    process_started: bool,
    process_alive: bool,
    stop_requested: bool,
    created: float,
    now: float | None = None,
) -> RunSnapshot:
    """Derive the snapshot.

    Args:
        events: All events so far.
        process_started: A process was started for this run.
        process_alive: That very process still runs.
        stop_requested: The person asked to stop.
        created: When the run was made, in seconds since the epoch.
        now: Seconds since the epoch, for tests.
    """
    last = events[-1] if events else None
    finished = last if isinstance(last, FinishedEvent) else None
    steps = tuple(event for event in events if isinstance(event, StepEvent))
    start = next((event for event in events if isinstance(event, StartEvent)), None)
    phases = [event.phase for event in events if isinstance(event, PhaseEvent)]
    downloads = [event for event in events if isinstance(event, DownloadEvent)]
    end = last.time if last and not process_alive else (now or time.time())
    state = _state(finished, bool(events), process_started, process_alive, stop_requested)
    message, hint = _words(state, finished)
    total_steps = start.total_steps if start else 0
    return RunSnapshot(
        state=state,
        phase=phases[-1] if phases else "starting",
        message=message,
        hint=hint,
        step=steps[-1].step if steps else 0,
        total_steps=total_steps,
        eta_seconds=_remaining_seconds(steps, total_steps),
        elapsed_seconds=max(0.0, end - created),
        tokens_per_second=_tokens_per_second(steps),
        memory_bytes=steps[-1].memory_bytes if steps else None,
        download=downloads[-1] if downloads else None,
        start=start,
        steps=steps,
        evaluations=tuple(event for event in events if isinstance(event, EvaluationEvent)),
        general=tuple(event for event in events if isinstance(event, GeneralEvent)),
        warnings=tuple(event.message for event in events if isinstance(event, WarningEvent)),
        model_saved=bool(finished and finished.model_saved),
    )


def _state(
    finished: FinishedEvent | None,
    has_events: bool,
    process_started: bool,
    process_alive: bool,
    stop_requested: bool,
) -> State:
    if finished:
        return finished.outcome
    if not process_started:
        return "queued"
    if not process_alive:
        return "stopped" if stop_requested else "lost"
    if stop_requested:
        return "stopping"
    return "running" if has_events else "starting"


def _words(state: State, finished: FinishedEvent | None) -> tuple[str, str]:
    if finished:
        return finished.message, finished.hint
    if state == "stopped":
        return "Stopped at once.", "Nothing after the last checkpoint was kept."
    if state == "lost":
        return (
            "The training process is gone and never said why.",
            "Most often the computer ran out of memory or was switched off. Start it again, with a "
            "smaller batch size or model if it was memory.",
        )
    return "", ""


def _remaining_seconds(steps: Sequence[StepEvent], total_steps: int) -> float | None:
    if not steps:
        return None
    # The median is not disturbed by the one step that waited for an evaluation or a checkpoint.
    recent = statistics.median(step.seconds for step in steps[-RECENT_STEPS:])
    return recent * max(0, total_steps - steps[-1].step)


def _tokens_per_second(steps: Sequence[StepEvent]) -> float | None:
    recent = steps[-RECENT_STEPS:]
    seconds = sum(step.seconds for step in recent)
    return sum(step.tokens for step in recent) / seconds if seconds else None
