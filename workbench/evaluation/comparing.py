"""Several runs on the same rows, worked out from the answers on disk: each beside the first one, and the base."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.evaluation.answers import read_answers
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
from workbench.evaluation.request import BASE, TUNED, EvaluationRequest
from workbench.evaluation.result import is_answered
from workbench.evaluation.rows import EvaluationRow, Selection, general_rows, select_rows
from workbench.evaluation.tasks import Task
from workbench.presets import methods
from workbench.runs.side_by_side import MOST, distinct_names, model_label
from workbench.runs.store import Run, open_run, read_json
from workbench.runs.strength import AS_TRAINED, kept_strength

KEPT = 4  # comparisons whose figures are kept in memory
HELD = {"plain": "", "nf4": " in 4 bits", "int8": " in 8 bits"}


@dataclass(frozen=True)
class Column:
    """One model of a comparison.

    Attributes:
        id: The run's, or ``base``, ``base-2``, … for a model before training.
        name: What it is called on screen.
        run: The run; ``None`` for a model before training.
        metrics: On the rows that all models have answered.
        difference: To the first run; ``None`` for that one, and before there is a row.
        forgetting: Of a run, ``None`` until it and its base have read the general questions.
        facts: Device, precision and token limit, as the process wrote them down.
    """

    id: str
    name: str
    run: Run | None
    metrics: Metrics
    difference: Comparison | None
    forgetting: Forgetting | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class ComparedRow:
    """One row with what every model made of it, by the id of its column."""

    row: EvaluationRow
    sides: dict[str, Side]

    @property
    def is_told_apart(self) -> bool:
        """Some are right and others wrong; where nothing can be right, their answers differ."""
        rights = {side.right for side in self.sides.values()}
        return rights == {True, False} if None not in rights else len(self._answers) > 1

    @property
    def _answers(self) -> set[str]:
        return {side.answer for side in self.sides.values()}


@dataclass(frozen=True)
class RunComparison:
    """All that is known of a comparison.

    Attributes:
        runs: The one that the others are compared with comes first.
        request: What was asked of the first.
        task: How answers are compared.
        columns: The models before training, then the runs.
        rows: Every row that all models have answered.
        selection: Which rows are asked, and which were left out.
        too_long: Rows longer than one of the models can read; in no figure.
    """

    runs: list[Run]
    request: EvaluationRequest
    task: Task
    columns: list[Column]
    rows: list[ComparedRow]
    selection: Selection
    too_long: int

    @property
    def asked_rows(self) -> int:
        return len(self.selection.rows)

    @property
    def is_complete(self) -> bool:
        """Every model has answered every row it can read."""
        return len(self.rows) + self.too_long == self.asked_rows

    @property
    def names(self) -> dict[str, str]:
        """What each run is called, by its id."""
        return {column.id: column.name for column in self.columns if column.run}


def compared_requests(
    runs: Sequence[Run], asked: EvaluationRequest
) -> list[tuple[Run, EvaluationRequest]]:
    """Return what to ask each run, so that all answer the same rows and each base model only once.

    Args:
        runs: The first is the one whose held-back rows are asked.
        asked: What to ask the first; the others are asked for their saved model, at the strength kept with them.

    Raises:
        WorkbenchError: A run is there twice, there are too many, one has no model, or no row is left to ask.
    """
    if len({run.id for run in runs}) < len(runs):
        raise WorkbenchError("A run is compared with itself.", "Name each run once.")
    if len(runs) > MOST:
        raise WorkbenchError(f"{len(runs)} runs are too many.", f"Compare at most {MOST} at once.")
    shared = replace(asked, compared=tuple(run.id for run in runs))
    select_rows(runs[0], shared)  # says so if no row is left
    owners = {owner.id for owner in _base_owners(runs, shared).values()}
    found = []
    for number, run in enumerate(runs):
        checkpoint, strength = asked.checkpoint, asked.strength
        if number:
            checkpoint, strength = None, kept_strength(run)
        request = replace(shared, base=run.id in owners, checkpoint=checkpoint, strength=strength)
        request.answer_paths(run)  # says so if there is no model
        found.append((run, request))
    return found


def read_comparison(
    asked: Sequence[tuple[Run, EvaluationRequest]], task: Task | None = None
) -> RunComparison:
    """Work out a comparison from what is on disk, also from half of the answers.

    Args:
        asked: As ``compared_requests`` returns it.
        task: How to compare answers; ``None`` to tell from the data.

    Raises:
        WorkbenchError: Data or a model is gone, or no row is left to ask.
    """
    runs = [run for run, _ in asked]
    first, request = asked[0]
    selection = select_rows(first, request)
    paths = {run.id: one.answer_paths(run) for run, one in asked}
    said = {run.id: read_answers(paths[run.id][TUNED]) for run in runs}
    owners = [run for run, one in asked if one.base]
    base_ids = [BASE if number == 1 else f"{BASE}-{number}" for number in range(1, len(owners) + 1)]
    bases = {
        base_id: read_answers(paths[run.id][BASE])
        for base_id, run in zip(base_ids, owners, strict=True)
    }
    measured = measure_answers(selection, bases | said, task)
    facts = {run.id: _facts(run, one) for run, one in asked}
    before = {_base_key(run): bases[i] for i, run in zip(base_ids, owners, strict=True)}

    def column(column_id: str, name: str, run: Run, kept: Forgetting | None) -> Column:
        return Column(
            column_id,
            name,
            None if column_id in bases else run,
            measured.metrics[column_id],
            _difference(measured, first.id, column_id),
            kept,
            facts[run.id],
        )

    names = zip(base_ids, _base_names(owners), owners, strict=True)
    columns = [column(base_id, name, run, None) for base_id, name, run in names]
    for (run, one), name in zip(asked, distinct_names(runs), strict=True):
        if one.strength != AS_TRAINED:
            name = f"{name} at strength {one.strength:g}"
        kept = forgetting(before[_base_key(run)], said[run.id], len(general_rows(run)))
        columns.append(column(run.id, name, run, kept))
    return RunComparison(
        runs=runs,
        request=request,
        task=measured.task,
        columns=columns,
        rows=_rows(measured),
        selection=selection,
        too_long=measured.too_long,
    )


def find_comparison(
    runs: Sequence[Run], asked: EvaluationRequest, task: Task | None = None
) -> RunComparison | None:
    """Return the same, worked out once for the answers there are; ``None`` until all models said something.

    Raises:
        WorkbenchError: As ``compared_requests`` and ``read_comparison``.
    """
    shared = replace(asked, compared=tuple(run.id for run in runs))
    folders = [shared.directory(run) for run in runs]
    changed = tuple(
        (str(path), path.stat().st_mtime_ns)
        for folder in folders
        for path in sorted(folder.glob("*.jsonl"))
        if path.name != "progress.jsonl"
    )
    labels = tuple((run.name, kept_strength(run)) for run in runs)
    return _kept_comparison(tuple(run.directory for run in runs), labels, asked, task, changed)


@functools.lru_cache(maxsize=KEPT)
def _kept_comparison(
    directories: tuple[Path, ...],
    labels: tuple[tuple[str, float], ...],
    asked: EvaluationRequest,
    task: Task | None,
    changed: tuple[tuple[str, int], ...],
) -> RunComparison | None:
    """Work it out; ``labels`` and ``changed`` only say when to do so again."""
    requests = compared_requests([open_run(directory) for directory in directories], asked)
    if not all(p.exists() for run, one in requests for p in one.answer_paths(run).values()):
        return None
    return read_comparison(requests, task)


def _base_key(run: Run) -> tuple[Any, ...]:
    """Return what decides how a run's base model answers."""
    general, config = run.data.general_check, run.config
    held = methods()[config.method].base
    return config.model, held, config.precision, general.sha256 if general else None


def _base_owners(runs: Sequence[Run], shared: EvaluationRequest) -> dict[tuple[Any, ...], Run]:
    """Return for each base model the run whose process asks it: one that has its answers, else the first."""
    owners: dict[tuple[Any, ...], Run] = {}
    only_base = replace(shared, tuned=False, base=True)
    for run in runs:
        key = _base_key(run)
        if key not in owners or (
            not is_answered(owners[key], only_base) and is_answered(run, only_base)
        ):
            owners[key] = run
    return owners


def _base_names(owners: Sequence[Run]) -> list[str]:
    if len(owners) == 1:
        return [BASE]
    names = [
        f"{BASE}, {model_label(run)}{HELD[methods()[run.config.method].base]}" for run in owners
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: number + 1].count(name)})"
        for number, name in enumerate(names)
    ]


def _difference(measured: Measured, first: str, column_id: str) -> Comparison | None:
    if column_id == first or not measured.rows:
        return None
    return compare_scores(measured.metrics[first], measured.metrics[column_id], measured.task)


def _rows(measured: Measured) -> list[ComparedRow]:
    return [
        ComparedRow(row, {name: sides[place] for name, sides in measured.sides.items()})
        for place, row in enumerate(measured.rows)
    ]


def _facts(run: Run, request: EvaluationRequest) -> dict[str, Any]:
    path = request.directory(run) / "facts.json"
    return read_json(path) if path.exists() else {}
