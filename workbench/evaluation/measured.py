"""Answers of any number of models to the same rows, measured and compared with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.evaluation.answers import ModelAnswers
from workbench.evaluation.intervals import Figure, mean, ratio
from workbench.evaluation.metrics import Metrics, RowScore, Scored, measure
from workbench.evaluation.rows import EvaluationRow, Selection
from workbench.evaluation.tasks import Task, all_labels, choose_task
from workbench.models.thoughts import answer_of


@dataclass(frozen=True)
class Side:
    """What one model made of a row.

    Attributes:
        answer: Its answer.
        right: Whether it is as expected; ``None`` where the expected answer cannot be compared.
        score: From 0 to 1, ``None`` likewise.
        loss: Mean loss of the expected answer's tokens, in nats.
        ended: The answer ended by itself.
    """

    answer: str
    right: bool | None
    score: float | None
    loss: float
    ended: bool


@dataclass(frozen=True)
class Forgetting:
    """What is left of general skills.

    ``kept`` is exp(before - after), at most 1: the probability that the tuned model gives to the next token of
    good general answers, as a share of what the base model gave, in the geometric mean over tokens.

    Attributes:
        before: Mean loss per token of the base model on general questions, in nats.
        after: The same of the tuned model.
        kept: With its interval; counts questions.
        tokens: Tokens it rests on.
    """

    before: float
    after: float
    kept: Figure
    tokens: int


@dataclass(frozen=True)
class Comparison:
    """One model beside another on the same rows, such as tuned beside base.

    Attributes:
        better: Rows where the other was wrong and this one is right; of free text, where it has the higher score.
        worse: Rows where it is the other way round.
        difference: Mean score of a row minus that of the other, from -1 to 1, with its paired interval.
    """

    better: int
    worse: int
    difference: Figure

    @property
    def is_clear(self) -> bool:
        """The difference is more than chance: its interval is on one side of 0."""
        low, high = self.difference.low, self.difference.high
        return low is not None and high is not None and (low > 0 or high < 0)


@dataclass(frozen=True)
class Measured:
    """Models on the rows that all of them have answered.

    Attributes:
        task: How answers are compared.
        rows: Those that every model has answered and can read.
        too_long: Rows longer than one of the models can read.
        metrics: By the name of the model.
        sides: Likewise; one for each of the rows.
    """

    task: Task
    rows: list[EvaluationRow]
    too_long: int
    metrics: dict[str, Metrics]
    sides: dict[str, list[Side]]


def measure_answers(
    selection: Selection, said: Mapping[str, ModelAnswers], task: Task | None = None
) -> Measured:
    """Measure what models said, also when only half of it is there.

    Args:
        selection: The rows that are asked.
        said: By the name of the model.
        task: How to compare answers; ``None`` to tell from the data.
    """
    answered = [row for row in selection.rows if all(_has(one, row) for one in said.values())]
    rows = [row for row in answered if all(_readable(one, row) for one in said.values())]
    known = selection.known_answers, selection.learned_answers
    task = task or choose_task(*known)
    labels = all_labels(*known) if task == "labels" else []
    scored = {name: [_scored(row, one) for row in rows] for name, one in said.items()}
    metrics = {name: measure(task, one, labels) for name, one in scored.items()}
    sides = {
        name: [_side(row, score) for row, score in zip(one, metrics[name].rows, strict=True)]
        for name, one in scored.items()
    }
    return Measured(task, rows, len(answered) - len(rows), metrics, sides)


def compare_scores(before: Metrics, after: Metrics, task: Task) -> Comparison:
    """Compare two models row by row."""
    pairs = [(b, a) for b, a in zip(before.rows, after.rows, strict=True) if a and b]
    gains = [after.score - before.score for before, after in pairs]
    if task == "text":  # hardly any answer is right to the letter
        better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    else:
        better = sum(after.right and not before.right for before, after in pairs)
        worse = sum(before.right and not after.right for before, after in pairs)
    return Comparison(better, worse, mean(gains))


def forgetting(base: ModelAnswers, tuned: ModelAnswers, asked: int) -> Forgetting | None:
    """Compare the losses on general questions; ``None`` until both models have read all of them.

    Args:
        base: What the model before training said.
        tuned: What the tuned one said.
        asked: How many general questions there are.
    """
    before, after = base.general, tuned.general
    both = sorted(before.keys() & after.keys())
    tokens = sum(before[index].tokens for index in both)
    if not tokens or len(before) != len(after) or len(both) > asked:
        return None
    rises = [after[index].loss - before[index].loss for index in both]
    rise = ratio(rises, [before[index].tokens for index in both])
    falls = Figure(_minus(rise.value), _minus(rise.high), _minus(rise.low), rise.count)
    return Forgetting(
        before=sum(before[index].loss for index in both) / tokens,
        after=sum(after[index].loss for index in both) / tokens,
        kept=falls.map(lambda fall: math.exp(min(0.0, fall))),
        tokens=tokens,
    )


def _has(said: ModelAnswers, row: EvaluationRow) -> bool:
    return row.index in said.answers and row.index in said.losses


def _readable(said: ModelAnswers, row: EvaluationRow) -> bool:
    return said.answers[row.index].text is not None


def _scored(row: EvaluationRow, said: ModelAnswers) -> Scored:
    answer, loss = said.answers[row.index], said.losses[row.index]
    return Scored(
        expected=row.expected,
        answer=answer_of(answer.text or ""),
        answer_tokens=answer.tokens,
        ended=answer.ended,
        loss=loss.loss,
        correct=loss.correct,
        tokens=loss.tokens,
    )


def _side(scored: Scored, score: RowScore | None) -> Side:
    return Side(
        answer=scored.answer,
        right=score.right if score else None,
        score=score.score if score else None,
        loss=scored.loss / max(1, scored.tokens),
        ended=scored.ended,
    )


def _minus(number: float | None) -> float | None:
    return None if number is None else -number
