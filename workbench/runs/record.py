"""What a run has said so far: its events, sorted by kind and kept up to date one by one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from workbench.runs.events import (
    CheckpointEvent,
    DownloadEvent,
    EvaluationEvent,
    Event,
    FinishedEvent,
    GeneralEvent,
    PhaseEvent,
    ResumeEvent,
    SampleEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
    read_events,
)

AtStep = TypeVar("AtStep", StepEvent, EvaluationEvent, GeneralEvent, SampleEvent, CheckpointEvent)


class Record:
    """A run's events by kind, in their order.

    A run that goes on from a checkpoint forgets what it said of later steps, so every list is what an
    uninterrupted run would have said. Its time is that of all its processes together.

    Attributes:
        last: The newest event.
        finished: The last word of the newest process, or ``None`` while it works.
        phase: Where it is.
        started_at: When its first process began, in seconds since the epoch.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.last: Event | None = None
        self.finished: FinishedEvent | None = None
        self.start: StartEvent | None = None
        self.phase: str = "starting"
        self.download: DownloadEvent | None = None
        self.steps: list[StepEvent] = []
        self.evaluations: list[EvaluationEvent] = []
        self.general: list[GeneralEvent] = []
        self.samples: list[SampleEvent] = []
        self.checkpoints: list[CheckpointEvent] = []
        self.warnings: list[str] = []
        self.started_at: float | None = None
        self._process_began = 0.0
        self._earlier_seconds = 0.0
        self.extend(events)

    def extend(self, events: Iterable[Event]) -> None:
        """Take in events, the oldest first."""
        for event in events:
            self._add(event)

    def elapsed_seconds(self, end: float) -> float:
        """Return how long its processes have worked until ``end``, seconds since the epoch."""
        if self.last is None:
            return 0.0
        return self._earlier_seconds + max(0.0, end - self._process_began)

    def losses(self) -> dict[str, list[tuple[int, float | None]]]:
        """Return the loss curves by what they are of, as pairs of step and loss."""
        events: dict[str, list[StepEvent] | list[EvaluationEvent] | list[GeneralEvent]] = {
            "training": self.steps,
            "held_back": self.evaluations,
            "general": self.general,
        }
        return {name: [(one.step, one.loss) for one in found] for name, found in events.items()}

    def _add(self, event: Event) -> None:
        if self.last is None or (isinstance(event, PhaseEvent) and event.phase == "starting"):
            self._begin_process(event)
        self.last = event
        self.finished = event if isinstance(event, FinishedEvent) else None
        match event:
            case StepEvent():
                self.steps.append(event)
            case EvaluationEvent():
                self._forget_check_at(event.step)
                self.evaluations.append(event)
            case GeneralEvent():
                self.general.append(event)
            case SampleEvent():
                self.samples.append(event)
            case CheckpointEvent():
                self.checkpoints.append(event)
            case WarningEvent():
                if event.message not in self.warnings:  # each process of a run says it anew
                    self.warnings.append(event.message)
            case PhaseEvent():
                self.phase = event.phase
            case DownloadEvent():
                self.download = event
            case StartEvent():
                self.start = event
            case ResumeEvent():
                self._go_back_to(event)

    def _begin_process(self, event: Event) -> None:
        if self.last is None:
            self.started_at = event.time
        else:
            self._earlier_seconds += max(0.0, self.last.time - self._process_began)
        self._process_began = event.time

    def _forget_check_at(self, step: int) -> None:
        """A run may check once more at the checkpoint that it goes on from; only the last check counts."""
        if self.evaluations and self.evaluations[-1].step >= step:
            self.evaluations = _until(self.evaluations, step - 1)
            self.samples = _until(self.samples, step - 1)

    def _go_back_to(self, event: ResumeEvent) -> None:
        # With 0 it begins anew: what was said before the first step is said again, too.
        last = event.step or -1
        self.steps = _until(self.steps, last)
        self.evaluations = _until(self.evaluations, last)
        self.general = _until(self.general, last)
        self.samples = _until(self.samples, last)
        self.checkpoints = _until(self.checkpoints, last)


def read_record(path: Path) -> Record:
    """Read everything that a run has said, from its ``events.jsonl``."""
    return Record(read_events(path)[0])


def _until(events: list[AtStep], step: int) -> list[AtStep]:
    return [event for event in events if event.step <= step]
