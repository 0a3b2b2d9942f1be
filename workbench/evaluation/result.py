"""What an evaluation shows, worked out from the answers on disk: nothing is computed twice or stored twice."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.evaluation.answers import read_answers
from workbench.evaluation.judgements import Judged, judgement_paths, read_judged
from workbench.evaluation.learned import learned_questions
from workbench.evaluation.measured import (
    Comparison,
    Forgetting,
    Measured,
    Side,
    compare_scores,
    forgetting,
    measure_answers,
)
from workbench.evaluation.metrics import Metrics
from workbench.evaluation.plain import PlainRow, plain_rows
from workbench.evaluation.request import BASE, TUNED, EvaluationRequest
from workbench.evaluation.rows import EvaluationRow, general_rows, select_rows
from workbench.evaluation.tasks import Task
from workbench.runs.store import Run, open_run, read_json

KEPT = 8  # evaluations whose figures are kept in memory; they take seconds


@dataclass(frozen=True)
class RowResult:
    """One row, what was expected, and what each model made of it; ``None`` for a model not asked.

    Answers are without thoughts; ``written`` is what was expected with them.
    """

    index: int
    dataset: str
    row: int
    asked: list[Message]
    question: str
    expected: str
    written: str
    base: Side | None
    tuned: Side | None

    @property
    def tuned_wrong(self) -> bool:
        return self.tuned is not None and self.tuned.right is False

    @property
    def got_worse(self) -> bool:
        """The base model was right and the tuned one is wrong."""
        return self.tuned_wrong and self.base is not None and self.base.right is True


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
        judged: What each judge said that was asked.
        learned_rows: Rows asked that the run learned from; ``None`` where its data is gone, so that nobody can tell.
        plain: The plain questions that both models have answered.
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
    judged: list[Judged]
    learned_rows: int | None = 0
    plain: Sequence[PlainRow] = ()

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
    facts = read_json(facts_path)
    general = facts["general"]
    plain = facts.get("plain", [])  # older ones did not ask them
    files = map(read_answers, request.answer_paths(run).values())
    return all(answers.covers(rows, general, plain) for answers in files)


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
    measured = measure_answers(selection, said, task)
    metrics, both, results = measured.metrics, len(said) > 1, _results(measured)
    facts_path = request.directory(run) / "facts.json"
    return Evaluation(
        run=run,
        request=request,
        task=measured.task,
        metrics=metrics,
        rows=results,
        asked_rows=len(selection.rows),
        available_rows=selection.available,
        too_long=measured.too_long,
        forgetting=forgetting(said[BASE], said[TUNED], len(general_rows(run))) if both else None,
        comparison=compare_scores(metrics[BASE], metrics[TUNED], measured.task)
        if both and measured.rows
        else None,
        facts=read_json(facts_path) if facts_path.exists() else {},
        judged=[read_judged(path, results) for path in judgement_paths(run, request)],
        learned_rows=_learned_rows(run, selection.rows) if request.tuned else 0,
        plain=plain_rows(said[BASE], said[TUNED]) if both else [],
    )


def _learned_rows(run: Run, rows: Sequence[EvaluationRow]) -> int | None:
    try:
        questions = learned_questions(run.directory)
    except WorkbenchError:
        return None
    return sum(row.key in questions for row in rows)


def find_evaluation(
    run: Run, request: EvaluationRequest, task: Task | None = None
) -> Evaluation | None:
    """Return the same, worked out once for the answers there are; ``None`` until all models said something.

    Raises:
        WorkbenchError: The data or the model is gone.
    """
    paths = list(request.answer_paths(run).values())
    if not all(path.exists() for path in paths):
        return None
    judges = judgement_paths(run, request)
    changed = (run.name, *(path.stat().st_mtime_ns for path in [*paths, *judges]))
    return _kept_evaluation(run.directory, request, task, changed)


@functools.lru_cache(maxsize=KEPT)
def _kept_evaluation(
    run_dir: Path, request: EvaluationRequest, task: Task | None, changed: tuple[str | int, ...]
) -> Evaluation:
    return read_evaluation(open_run(run_dir), request, task)


def _results(measured: Measured) -> list[RowResult]:
    nobody: list[Side | None] = [None] * len(measured.rows)
    base, tuned = (measured.sides.get(name, nobody) for name in (BASE, TUNED))
    return [
        RowResult(
            row.index,
            row.dataset,
            row.row,
            row.asked,
            row.question,
            row.expected,
            row.written,
            *sides,
        )
        for row, *sides in zip(measured.rows, base, tuned, strict=True)
    ]
