"""A run's steps as columns of numbers: what charts and tables are made of."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from workbench.runs.events import EvaluationEvent, StepEvent

FIELDS = tuple(field.name for field in fields(StepEvent))
MAX_POINTS = 1000  # more cannot be seen in a chart, and every tick sends them
RUNS_KEPT = 8  # a run of 100,000 steps takes 8 MB

_numbers_of = attrgetter(*FIELDS)


@dataclass(frozen=True, eq=False)
class Columns:
    """The steps of a run, one row of numbers for each field.

    Attributes:
        table: float64 (fields, steps); NaN where a step has no such number.
        last: The newest step.
    """

    table: NDArray[np.float64]
    last: StepEvent | None

    @classmethod
    def of(cls, steps: Sequence[StepEvent]) -> Columns:
        """Return the columns of all steps."""
        return cls(np.empty((len(FIELDS), 0)), None).extended(steps)

    def extended(self, steps: Sequence[StepEvent]) -> Columns:
        """Return the columns of all steps; what is known already is not converted again.

        Args:
            steps: All steps of the same run. If it went on from a checkpoint, steps known here may be
                gone or may have been done again; then everything is converted anew.
        """
        known = len(self)
        if known > len(steps) or (known and steps[known - 1] != self.last):
            return Columns.of(steps)
        new = steps[known:]
        if not new:
            return self
        rows = np.array([_numbers_of(step) for step in new], dtype=np.float64)
        return Columns(np.hstack([self.table, rows.T]), new[-1])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        column: NDArray[np.float64] = self.table[FIELDS.index(name)]
        return column

    def __len__(self) -> int:
        return int(self.table.shape[1])


class ColumnsCache:
    """The columns of the runs looked at last, so that a tick converts the new steps only."""

    def __init__(self) -> None:
        self._columns: dict[str, Columns] = {}
        self._lock = threading.Lock()

    def get(self, run_id: str, steps: Sequence[StepEvent]) -> Columns:
        """Return the columns of a run.

        Args:
            run_id: Which run.
            steps: All its steps so far.
        """
        with self._lock:
            columns = self._columns.pop(run_id, None) or Columns.of(())
            self._columns[run_id] = columns.extended(steps)
            while len(self._columns) > RUNS_KEPT:
                del self._columns[next(iter(self._columns))]  # the one not asked for the longest
            return self._columns[run_id]


def smooth(values: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Return the exponential moving average with bias correction.

    A point depends on the past only, so the curve never changes behind the newest point. NaN stays NaN
    and does not enter the average.

    Args:
        values: float64 (steps,).
        weight: Share of the past in each point, from 0, which smooths nothing, to below 1.

    Source of the bias correction: Kingma and Ba, arXiv 1412.6980, section 3.
    """
    average = pd.Series(values).ewm(alpha=1 - weight, adjust=True, ignore_na=True).mean()
    return np.where(np.isnan(values), np.nan, average.to_numpy())


def sample(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of at most about ``MAX_POINTS`` values that show the same curve.

    All of a short one; else the lowest and the highest of every stretch, the first and the last. The
    length of a stretch doubles, so that what is drawn seldom changes while points arrive.

    Args:
        values: float64 (steps,).
    """
    count = len(values)
    if count <= MAX_POINTS:
        return np.arange(count)
    width = 2 ** math.ceil(math.log2(2 * count / MAX_POINTS))
    padded = np.pad(values, (0, -count % width), constant_values=np.nan).reshape(-1, width)
    starts = np.arange(len(padded)) * width
    lowest = starts + np.where(np.isnan(padded), np.inf, padded).argmin(axis=1)
    highest = starts + np.where(np.isnan(padded), -np.inf, padded).argmax(axis=1)
    return np.unique(np.concatenate([[0, count - 1], lowest, highest]))


def steps_csv(columns: Columns, evaluations: Sequence[EvaluationEvent]) -> str:
    """Return everything measured at each step as CSV, with the validation loss where there was one."""
    frame = pd.DataFrame(dict(zip(FIELDS, columns.table, strict=True)))
    checks = pd.DataFrame(
        {
            "step": np.array([event.step for event in evaluations], dtype=np.float64),
            "validation_loss": np.array([e.loss for e in evaluations], dtype=np.float64),
            "validation_token_accuracy": np.array(
                [event.token_accuracy for event in evaluations], dtype=np.float64
            ),
        }
    )
    # The first check is before the first step, so either side may lack a row.
    merged = frame.merge(checks, on="step", how="outer")
    whole = {"step": "Int64", "tokens": "Int64", "memory_bytes": "Int64"}
    order = ["step", *(name for name in merged.columns if name != "step")]
    text: str = merged.astype(whole)[order].to_csv(index=False)
    return text
