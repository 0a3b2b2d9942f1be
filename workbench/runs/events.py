"""What a run says: one JSON object a line in ``events.jsonl``, appended by the run's own process.

Every line has ``kind`` and ``time`` (seconds since the epoch). Readers skip kinds they do not know,
so older pages can show newer runs. NaN is not JSON: a number that is not finite is written as null.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

Phase = Literal["downloading", "preparing data", "loading", "training", "saving"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events; ``time`` is set when the event is made."""

    kind: ClassVar[str]
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class PhaseEvent(Event):
    """The run has come to the next part of its work."""

    kind: ClassVar[str] = "phase"
    phase: Phase


@dataclass(frozen=True, kw_only=True)
class DownloadEvent(Event):
    """How far the model's download is."""

    kind: ClassVar[str] = "download"
    done_bytes: int
    total_bytes: int
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class StartEvent(Event):
    """Everything is loaded; the first step comes next.

    ``trained_parameters`` of ``parameters`` weights change. ``left_out_rows`` were longer than the
    maximum length, ``cut_rows`` were shortened to it. ``by_dataset`` has for each dataset, by name, the
    rows an epoch trains on and the rows held back.
    """

    kind: ClassVar[str] = "start"
    total_steps: int
    train_rows: int
    validation_rows: int
    left_out_rows: int
    supervised_tokens: int
    parameters: int
    trained_parameters: int
    device: str
    precision: str
    threads: int
    cut_rows: int = 0
    by_dataset: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepEvent(Event):
    """One optimizer step.

    ``loss`` is the mean over the step's supervised tokens before the step; null when not finite.
    ``tokens`` counts all real tokens of the step; ``memory_bytes`` is the process's peak.
    ``token_accuracy`` is the share of supervised tokens that the model thought likeliest, from 0 to 1.
    """

    kind: ClassVar[str] = "step"
    step: int
    epoch: float
    loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens: int
    seconds: float
    memory_bytes: int
    token_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationEvent(Event):
    """The mean loss over the supervised tokens of the validation rows, after ``step`` steps.

    ``by_dataset`` has it for each dataset by name, where there are several.
    """

    kind: ClassVar[str] = "evaluation"
    step: int
    loss: float | None
    seconds: float
    token_accuracy: float | None = None
    by_dataset: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class GeneralEvent(Event):
    """The mean loss on general questions that nothing is learned from, after ``step`` steps.

    What it rises from step 0, the base model, to the end is what the model forgot.
    """

    kind: ClassVar[str] = "general"
    step: int
    loss: float | None


@dataclass(frozen=True, kw_only=True)
class CheckpointEvent(Event):
    """A checkpoint is on disk, under ``checkpoints/``."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    folder: str


@dataclass(frozen=True, kw_only=True)
class WarningEvent(Event):
    """Something the person should know, as a sentence."""

    kind: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, kw_only=True)
class FinishedEvent(Event):
    """The last event. ``model_saved`` says whether ``model/`` holds something to chat with."""

    kind: ClassVar[str] = "finished"
    outcome: Literal["finished", "stopped", "failed"]
    message: str
    hint: str = ""
    model_saved: bool = False


EVENT_KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        PhaseEvent,
        DownloadEvent,
        StartEvent,
        StepEvent,
        EvaluationEvent,
        GeneralEvent,
        CheckpointEvent,
        WarningEvent,
        FinishedEvent,
    )
}


def append_event(path: Path, event: Event) -> None:
    """Append one event as one line.

    Raises:
        OSError: The line could not be written.
    """
    record = {"kind": event.kind, **_finite(asdict(event))}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Read the complete lines from ``offset`` on.

    Args:
        path: An ``events.jsonl``; a missing file reads as empty.
        offset: In bytes; where the last call ended.

    Returns:
        The events, and the offset for the next call. A half-written last line stays for then.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    complete = data[: data.rfind(b"\n") + 1]
    events = (_parse(line) for line in complete.splitlines())
    return [event for event in events if event is not None], offset + len(complete)


def _parse(line: bytes) -> Event | None:
    record = json.loads(line)
    kind = EVENT_KINDS.get(record.pop("kind"))
    if kind is None:
        return None
    known = {item.name for item in fields(kind)}
    return kind(**{name: value for name, value in record.items() if name in known})


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {name: _finite_value(value) for name, value in record.items()}


def _finite_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _finite(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
