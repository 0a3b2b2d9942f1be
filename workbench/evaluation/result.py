"""What an evaluation shows, worked out from the answers on disk: nothing is computed twice or stored twice."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data.formats import Message
from workbench.evaluation.answers import Answer, ModelAnswers, RowLoss, read_answers
from workbench.evaluation.intervals import Figure, mean, ratio
from workbench.evaluation.metrics import Metrics, RowScore, Scored, measure
from workbench.evaluation.request import BASE, TUNED, EvaluationRequest
from workbench.evaluation.rows import EvaluationRow, general_rows, select_rows
from workbench.evaluation.tasks import Task, choose_task, labels_of
from workbench.runs.store import Run, open_run, read_json

KEPT = 8  # evaluations whose figures are kept in memory; they take seconds


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
class RowResult:
    """One row, what was expected, and what each model made of it; ``None`` for a model not asked."""

    index: int
    dataset: str
    row: int
    asked: list[Message]
    question: str
    expected: str
    base: Side | None
    tuned: Side | None

    @property
    def tuned_wrong(self) -> bool:
        return self.tuned is not None and self.tuned.right is False

    @property
    def got_worse(self) -> bool:
        """The base model was right and the tuned one is wrong."""
        return self.tuned_wrong and self.base is not None and self.base.right is True

    @property
    def got_better(self) -> bool:
        """The base model was wrong and the tuned one is right."""
        sides = self.base, self.tuned
        return tuple(side.right if side else None for side in sides) == (False, True)


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
    """Tuned beside base on the same rows.

    Attributes:
        better: Rows where base was wrong and tuned is right; of free text, where tuned has the higher score.
        worse: Rows where it is the other way round.
        difference: Mean score of a row of tuned minus that of base, from -1 to 1, with its paired interval.
    """

    better: int
    worse: int
    difference: Figure


@dataclass(frozen=True)
class Evaluation:
    """All that is known of one evaluation.

    Attributes:
        run: Whose models.
        request: What was asked.
        task: How answers are compared.
        metrics: By ``base`` and ``tuned``.
        rows: Every row that all models have answered.
        asked_rows: How many rows were to be asked.
        available_rows: How many there are without a limit.
        too_long: Rows longer than the model can read; in no figure.
        forgetting: ``None`` until both models have read the general questions.
        comparison: ``None`` unless both models were asked.
        facts: Device, precision and token limit, as the process wrote them down.
    """

    run: Run
    request: EvaluationRequest
    task: Task
    metrics: dict[str, Metrics]
    rows: list[RowResult]
    asked_rows: int
    available_rows: int
    too_long: int
    forgetting: Forgetting | None
    comparison: Comparison | None
    facts: dict[str, Any]

    @property
    def is_complete(self) -> bool:
        """Every model has answered every row it can read."""
        return len(self.rows) + self.too_long == self.asked_rows

    @property
    def unusable(self) -> int:
        """Rows whose expected answer cannot be compared, the same for every model."""
        return max((metrics.unusable for metrics in self.metrics.values()), default=0)


def is_answered(run: Run, request: EvaluationRequest) -> bool:
    """Say whether everything of a request is on disk already."""
    facts_path = request.directory(run) / "facts.json"
    if not facts_path.exists():
        return False
    rows = select_rows(run, request).rows
    general = read_json(facts_path)["general"]
    files = map(read_answers, request.answer_paths(run).values())
    return all(answers.covers(rows, general) for answers in files)


def read_evaluation(run: Run, request: EvaluationRequest, task: Task | None = None) -> Evaluation:
    """Work out an evaluation from what is on disk, also from half of the answers.

    Args:
        run: Whose models.
        request: What was asked.
        task: How to compare answers; ``None`` to tell from the data.

    Raises:
        WorkbenchError: The data or the model is gone.
    """
    selection = select_rows(run, request)
    said = {name: read_answers(path) for name, path in request.answer_paths(run).items()}
    rows = [row for row in selection.rows if all(_has(one, row) for one in said.values())]
    readable = [row for row in rows if all(_readable(one, row) for one in said.values())]
    task = task or choose_task(selection.known_answers)
    labels = labels_of(selection.known_answers) if task == "labels" else []
    metrics = {
        name: measure(task, [_scored(row, one) for row in readable], labels)
        for name, one in said.items()
    }
    results = _results(readable, said, metrics)
    facts_path = request.directory(run) / "facts.json"
    return Evaluation(
        run=run,
        request=request,
        task=task,
        metrics=metrics,
        rows=results,
        asked_rows=len(selection.rows),
        available_rows=selection.available,
        too_long=len(rows) - len(readable),
        forgetting=_forgetting(said, len(general_rows(run))) if len(said) > 1 else None,
        comparison=_compare(results, task) if len(said) > 1 and results else None,
        facts=read_json(facts_path) if facts_path.exists() else {},
    )


def find_evaluation(
    run: Run, request: EvaluationRequest, task: Task | None = None
) -> Evaluation | None:
    """Return the same, worked out once for the answers there are; ``None`` until all models said something.

    Raises:
        WorkbenchError: The data or the model is gone.
    """
    paths = request.answer_paths(run).values()
    if not all(path.exists() for path in paths):
        return None
    changed = tuple(path.stat().st_mtime_ns for path in paths)
    return _kept_evaluation(run.directory, request, task, changed)


@functools.lru_cache(maxsize=KEPT)
def _kept_evaluation(
    run_dir: Path, request: EvaluationRequest, task: Task | None, changed: tuple[int, ...]
) -> Evaluation:
    return read_evaluation(open_run(run_dir), request, task)


def _has(said: ModelAnswers, row: EvaluationRow) -> bool:
    return row.index in said.answers and row.index in said.losses


def _readable(said: ModelAnswers, row: EvaluationRow) -> bool:
    return said.answers[row.index].text is not None


def _scored(row: EvaluationRow, said: ModelAnswers) -> Scored:
    answer: Answer = said.answers[row.index]
    loss: RowLoss = said.losses[row.index]
    return Scored(
        expected=row.expected,
        answer=answer.text or "",
        answer_tokens=answer.tokens,
        ended=answer.ended,
        loss=loss.loss,
        correct=loss.correct,
        tokens=loss.tokens,
    )


def _results(
    rows: Sequence[EvaluationRow], said: dict[str, ModelAnswers], metrics: dict[str, Metrics]
) -> list[RowResult]:
    def side(name: str, place: int, row: EvaluationRow) -> Side | None:
        if name not in said:
            return None
        scored = _scored(row, said[name])
        score: RowScore | None = metrics[name].rows[place]
        return Side(
            answer=scored.answer,
            right=score.right if score else None,
            score=score.score if score else None,
            loss=scored.loss / max(1, scored.tokens),
            ended=scored.ended,
        )

    return [
        RowResult(
            index=row.index,
            dataset=row.dataset,
            row=row.row,
            asked=row.asked,
            question=row.question,
            expected=row.expected,
            base=side(BASE, place, row),
            tuned=side(TUNED, place, row),
        )
        for place, row in enumerate(rows)
    ]


def _compare(results: Sequence[RowResult], task: Task) -> Comparison:
    gains = [
        row.tuned.score - row.base.score
        for row in results
        if row.base and row.tuned and row.base.score is not None and row.tuned.score is not None
    ]
    if task == "text":  # hardly any answer is right to the letter
        better, worse = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
    else:
        better = sum(row.got_better for row in results)
        worse = sum(row.got_worse for row in results)
    return Comparison(better, worse, mean(gains))


def _forgetting(said: dict[str, ModelAnswers], asked: int) -> Forgetting | None:
    before, after = (said[name].general for name in (BASE, TUNED))
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


def _minus(number: float | None) -> float | None:
    return None if number is None else -number
