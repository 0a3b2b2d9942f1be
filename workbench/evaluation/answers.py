"""What a model said, kept as it comes: one row a line, so that a stopped evaluation goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from workbench.evaluation.rows import EvaluationRow
from workbench.runs.events import end_torn_line


@dataclass(frozen=True)
class Answer:
    """What a model answered to a row.

    Attributes:
        index: The row's.
        text: The answer; ``None`` where the question is longer than the model can read.
        tokens: Its length, without the token that ends it.
        ended: It ended by itself.
    """

    kind: ClassVar[str] = "answer"
    index: int
    text: str | None
    tokens: int = 0
    ended: bool = True


@dataclass(frozen=True)
class PlainAnswer(Answer):
    """The same to a plain question, by its place."""

    kind: ClassVar[str] = "plain"


@dataclass(frozen=True)
class RowLoss:
    """What a row's expected answers cost.

    Attributes:
        index: The row's.
        loss: Sum over the supervised tokens, in nats.
        correct: How many of these the model thought likeliest.
        tokens: How many there are; 0 where the row is longer than the model can read.
    """

    kind: ClassVar[str] = "loss"
    index: int
    loss: float
    correct: int
    tokens: int


@dataclass(frozen=True)
class GeneralLoss(RowLoss):
    """The same for a general question."""

    kind: ClassVar[str] = "general"


Said = Answer | PlainAnswer | RowLoss | GeneralLoss


@dataclass
class ModelAnswers:
    """Everything one model has said so far, by the index of the row."""

    answers: dict[int, Answer] = field(default_factory=dict)
    losses: dict[int, RowLoss] = field(default_factory=dict)
    general: dict[int, RowLoss] = field(default_factory=dict)
    plain: dict[int, Answer] = field(default_factory=dict)

    def covers(
        self, rows: Iterable[EvaluationRow], general: Iterable[int], plain: Iterable[int]
    ) -> bool:
        """Say whether nothing is left to ask.

        Args:
            rows: Those that are asked; of those without an expected answer there is no loss.
            general: Indices of the general questions whose loss is wanted.
            plain: Indices of the plain questions that are answered.
        """
        rows = list(rows)
        return (
            {row.index for row in rows} <= self.answers.keys()
            and {row.index for row in rows if row.has_expected} <= self.losses.keys()
            and set(general) <= self.general.keys()
            and set(plain) <= self.plain.keys()
        )


def read_answers(path: Path) -> ModelAnswers:
    """Read a file of answers; a missing one is empty, a line that is torn is passed over."""
    found = ModelAnswers()
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
            kind = record.pop("kind")
            if kind == Answer.kind:
                found.answers[record["index"]] = Answer(**record)
            elif kind == PlainAnswer.kind:
                found.plain[record["index"]] = PlainAnswer(**record)
            elif kind == RowLoss.kind:
                found.losses[record["index"]] = RowLoss(**record)
            elif kind == GeneralLoss.kind:
                found.general[record["index"]] = GeneralLoss(**record)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # asked again
    return found


def append_answers(path: Path, said: Sequence[Said]) -> None:
    """Append what a model said.

    Raises:
        OSError: It could not be written.
    """
    end_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        for one in said:
            record = {"kind": one.kind, **asdict(one)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
