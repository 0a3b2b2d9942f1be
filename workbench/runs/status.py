"""What a run is doing, derived from its events and whether its process lives. Pure; never stored."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workbench.runs.events import (
    CheckpointEvent,
    DownloadEvent,
    EvaluationEvent,
    FinishedEvent,
    GeneralEvent,
    SampleEvent,
    StartEvent,
    StepEvent,
)
from workbench.runs.record import Record

State = Literal[
    "queued", "starting", "running", "stopping", "finished", "stopped", "failed", "lost"
]

ACTIVE_STATES = frozenset({"queued", "starting", "running", "stopping"})
RESUMABLE_STATES = frozenset({"stopped", "failed", "lost"})
# What stands in the stop file of a run whose process was ended.
AT_ONCE, SILENT = "now", "silent"
RECENT_STEPS = 20  # over how many steps speed and remaining time are measured


@dataclass(frozen=True)
class Signs:
    """What is seen of a run besides its events.

    Attributes:
        place: Its place in the line of those that wait, from 1, or ``None``.
        process_started: A process was started for it.
        process_alive: That very process still runs.
        stop_requested: The person asked to stop.
        killed: Why the workbench itself ended the process, ``AT_ONCE`` or ``SILENT``; empty where it did not.
    """

    place: int | None
    process_started: bool
    process_alive: bool
    stop_requested: bool
    killed: str = ""


@dataclass(frozen=True)
class RunSnapshot:
    """One moment of a run, as the page and the command line show it.

    ``started_at`` and ``finished_at`` are seconds since the epoch, ``None`` before; ``eta_seconds``, ``tokens_per_second`` and ``memory_bytes`` are ``None`` until measured, the first also when nothing works; ``place`` is the
    place in the line of a run that waits.
    """

    state: State
    phase: str
    message: str
    hint: str
    place: int | None
    step: int
    total_steps: int
    eta_seconds: float | None
    elapsed_seconds: float
    started_at: float | None
    finished_at: float | None
    tokens_per_second: float | None
    memory_bytes: int | None
    download: DownloadEvent | None
    start: StartEvent | None
    finished: FinishedEvent | None
    steps: tuple[StepEvent, ...]
    evaluations: tuple[EvaluationEvent, ...]
    general: tuple[GeneralEvent, ...]
    samples: tuple[SampleEvent, ...]
    checkpoints: tuple[CheckpointEvent, ...]
    warnings: tuple[str, ...]
    model_saved: bool

    @property
    def is_active(self) -> bool:
        return self.state in ACTIVE_STATES

    @property
    def can_resume(self) -> bool:
        """Whether it ended before its end, so that it can go on from its last checkpoint."""
        return self.state in RESUMABLE_STATES

    @property
    def best_evaluation(self) -> EvaluationEvent | None:
        """The one with the lowest validation loss after the first step."""
        return self.best_check("loss")

    def best_check(self, best_by: Literal["loss", "accuracy"]) -> EvaluationEvent | None:
        """Return the best evaluation after the first step, the earlier one of two that are as good."""
        measured = [event for event in self.evaluations if event.loss is not None and event.step]
        if best_by == "accuracy":
            return max(measured, key=lambda event: event.token_accuracy or 0.0, default=None)
        return min(measured, key=lambda event: event.loss or 0.0, default=None)


def derive_status(record: Record, signs: Signs, now: float | None = None) -> RunSnapshot:
    """Derive the snapshot.

    Args:
        record: All events so far.
        signs: What is seen besides.
        now: Seconds since the epoch, for tests.
    """
    steps, start = record.steps, record.start
    end = record.last.time if record.last and not signs.process_alive else (now or time.time())
    state = _state(record, signs)
    message, hint = _words(state, record, signs)
    total_steps = start.total_steps if start else 0
    return RunSnapshot(
        state=state,
        phase="leaving" if record.finished and signs.process_alive else record.phase,
        message=message,
        hint=hint,
        place=signs.place,
        step=steps[-1].step if steps else 0,
        total_steps=total_steps,
        eta_seconds=_remaining_seconds(steps, total_steps) if signs.process_alive else None,
        elapsed_seconds=record.elapsed_seconds(end),
        started_at=record.started_at,
        finished_at=record.finished.time if record.finished else None,
        tokens_per_second=_tokens_per_second(steps),
        memory_bytes=steps[-1].memory_bytes if steps else None,
        download=record.download,
        start=start,
        finished=record.finished,
        steps=tuple(steps),
        evaluations=tuple(record.evaluations),
        general=tuple(record.general),
        samples=tuple(record.samples),
        checkpoints=tuple(record.checkpoints),
        warnings=tuple(record.warnings),
        model_saved=bool(record.finished and record.finished.model_saved),
    )


def _state(record: Record, signs: Signs) -> State:
    if signs.place is not None:
        return "queued"
    if signs.process_alive:
        if signs.stop_requested:
            return "stopping"
        return "running" if record.last else "starting"
    if record.finished:
        return record.finished.outcome
    if signs.killed or not signs.process_started:
        return "stopped"
    return "lost"


def _words(state: State, record: Record, signs: Signs) -> tuple[str, str]:
    """Return what happened and what can be done; empty where the figures say it all."""
    if state == "queued":
        return _waiting_words(signs.place or 1), ""
    if signs.process_alive:
        return "", ""
    if record.finished:
        return record.finished.message, record.finished.hint
    if not signs.process_started and record.last is None:
        return "It was taken out of the line before it began.", "It can be put back."
    kept = _kept_words(record)
    if signs.killed == SILENT:
        return f"It did not answer to Stop and was ended. {kept}", ""
    if state == "stopped":
        return f"Stopped at once. {kept}", ""
    return (
        "The training process is gone and never said why. Most often the computer ran out of memory or was "
        f"switched off. {kept}",
        "If it was memory, start a copy with fewer tokens at a time or a smaller model instead.",
    )


def _waiting_words(place: int) -> str:
    if place == 1:
        return "It begins when the run or test drive before it has ended."
    return f"It is number {place} in the line and begins when those before it have ended."


def _kept_words(record: Record) -> str:
    if record.checkpoints:
        return f"The checkpoint of step {record.checkpoints[-1].step:,} is kept: Resume goes on from there."
    return "No checkpoint was saved yet: Resume begins anew."


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
