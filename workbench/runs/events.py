"""What a run says: one JSON object a line in ``events.jsonl``, appended by the run's own process.

Every line has ``kind`` and ``time`` (seconds since the epoch). Readers skip kinds they do not know,
so older pages can show newer runs. NaN is not JSON: a number that is not finite is written as null.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

Phase = Literal["starting", "downloading", "preparing data", "loading", "training", "saving"]
Cause = Literal["", "memory", "disk", "diverged", "damaged", "package"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Base of all events; ``time`` is set when the event is made."""

    kind: ClassVar[str]
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseEvent(Event):
    """The run has come to the next part of its work; ``starting`` is the first word of a process."""

    kind: ClassVar[str] = "phase"
    phase: Phase


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadEvent(Event):
    """How far the model's download is."""

    kind: ClassVar[str] = "download"
    done_bytes: int
    total_bytes: int
    message: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StartEvent(Event):
    """Everything is loaded; the first step comes next.

    ``trained_parameters`` of ``parameters`` weights change. ``left_out_rows`` were longer than the
    maximum length, ``cut_rows`` were shortened to it. ``by_dataset`` has for each dataset, by name, the
    rows an epoch trains on and the rows held back. ``kernels`` is a package that computes parts of the model on a
    graphics card, with its version.
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
    precision: Literal["fp32", "bf16"]
    threads: int
    cut_rows: int = 0
    kernels: str = ""
    by_dataset: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeEvent(Event):
    """The run goes on from its checkpoint after ``step`` steps; what it said of later ones counts no more.

    With 0 it begins anew, and nothing that it said counts.
    """

    kind: ClassVar[str] = "resume"
    step: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEvent(Event):
    """One optimizer step.

    ``loss`` is the mean over the step's supervised tokens before the step; null when not finite.
    ``tokens`` counts those computed: no padding, and only once what all rows of a micro-batch begin with.
    ``memory_bytes`` is the process's peak.
    ``device_use`` is how busy the graphics card was, or without one the CPU with this process, from 0 to 1;
    null where nothing tells.
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
    device_use: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneralEvent(Event):
    """The mean loss on general questions that nothing is learned from, after ``step`` steps.

    What it rises from step 0, the base model, to the end is what the model forgot.
    """

    kind: ClassVar[str] = "general"
    step: int
    loss: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleEvent(Event):
    """What the model answers to one question after ``step`` steps, the likeliest token each time.

    ``expected`` is the answer of the data, empty where the person made the question up.
    """

    kind: ClassVar[str] = "sample"
    step: int
    question: str
    answer: str
    expected: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointEvent(Event):
    """A checkpoint is on disk, under ``checkpoints/``."""

    kind: ClassVar[str] = "checkpoint"
    step: int
    folder: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WarningEvent(Event):
    """Something the person should know, as a sentence."""

    kind: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishedEvent(Event):
    """The last event of a process.

    ``model_saved`` says whether ``model/`` holds something to chat with; ``cause`` what kind of failure it
    was, where that is known.
    """

    kind: ClassVar[str] = "finished"
    outcome: Literal["finished", "stopped", "failed"]
    message: str
    hint: str = ""
    model_saved: bool = False
    cause: Cause = ""


_STEP_LINE = b'{"kind": "step"'  # how append_event begins one

EVENT_KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        PhaseEvent,
        DownloadEvent,
        StartEvent,
        ResumeEvent,
        StepEvent,
        EvaluationEvent,
        GeneralEvent,
        SampleEvent,
        CheckpointEvent,
        WarningEvent,
        FinishedEvent,
    )
}

_FIELDS = {kind: {item.name for item in fields(kind)} for kind in EVENT_KINDS.values()}


def append_event(path: Path, event: Event) -> None:
    """Append one event as one line.

    Raises:
        OSError: The line could not be written.
    """
    record = {"kind": event.kind, **_finite(asdict(event))}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def end_torn_line(path: Path) -> None:
    """End a line that a killed process left half-written, so that the next event has its own."""
    if not path.exists() or not path.stat().st_size:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Read the complete lines from ``offset`` on.

    Args:
        path: An ``events.jsonl``; a missing file reads as empty.
        offset: In bytes; where the last call ended.

    Returns:
        The events, and the offset for the next call. A half-written last line stays for then; a line that is
        no event, as after a crash of the computer, is passed over.
    """
    events, end = [], offset
    for line in _complete_lines(path, offset):
        end += len(line)
        if (event := parse_event(line)) is not None:
            events.append(event)
    return events, end


def skim_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """Read as ``read_events`` does, but of each stretch of steps the last one: enough for a list of runs."""
    kept, end = [b""], offset
    for line in _complete_lines(path, offset):
        end += len(line)
        if line.startswith(_STEP_LINE) and kept[-1].startswith(_STEP_LINE):
            kept[-1] = line
        else:
            kept.append(line)
    parsed = (parse_event(line) for line in kept)
    return [event for event in parsed if event is not None], end


def parse_event(line: bytes) -> Event | None:
    """Return the event of a line; ``None`` for kinds we do not know and for lines that are damaged."""
    try:
        record = json.loads(line)
        kind = EVENT_KINDS[record.pop("kind")]
        known = _FIELDS[kind]
        return kind(**{name: value for name, value in record.items() if name in known})
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _complete_lines(path: Path, offset: int) -> Iterator[bytes]:
    """Yield line by line what has its newline: a file may have hundreds of megabytes."""
    if not path.exists() or path.stat().st_size <= offset:
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {name: _finite_value(value) for name, value in record.items()}


def _finite_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _finite(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
