"""How sure a figure is: 95 % intervals, so that twenty rows do not look like proof."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 1_000
BATCH = 50  # resamples at a time, so that memory does not grow with the rows
SEED = 42


@dataclass(frozen=True)
class Figure:
    """One number about a model.

    Attributes:
        value: The number; ``None`` where there is nothing to compute it from.
        low: Lower end of its 95 % interval, ``None`` where there is no interval.
        high: Upper end.
        count: Rows or tokens it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int

    def map(self, function: Callable[[float], float]) -> Figure:
        """Return the figure with a rising function applied to all three numbers."""

        def apply(number: float | None) -> float | None:
            return None if number is None else function(number)

        return Figure(apply(self.value), apply(self.low), apply(self.high), self.count)


NOTHING = Figure(None, None, None, 0)


def share(facts: Sequence[bool]) -> Figure:
    """Return the share of rows for which something holds, with Wilson's interval.

    The bootstrap would be sure of itself where all rows agree: of 20 right ones out of 20 it makes 100 % to
    100 %, Wilson 84 % to 100 % (Brown, Cai & DasGupta 2001, doi 10.1214/ss/1009213286).
    """
    if not facts:
        return NOTHING
    result = stats.binomtest(sum(map(bool, facts)), len(facts))
    ends = result.proportion_ci(CONFIDENCE, method="wilson")
    return Figure(float(result.statistic), float(ends.low), float(ends.high), len(facts))


def ratio(parts: Sequence[float], wholes: Sequence[float], count: int | None = None) -> Figure:
    """Return the sum of all parts by the sum of all wholes, with the percentile bootstrap over rows.

    Args:
        parts: One number a row.
        wholes: One number a row; all 1 for a mean.
        count: What the figure rests on, where that is not the rows.
    """
    if not sum(wholes):
        return NOTHING
    value = sum(parts) / sum(wholes)
    return Figure(
        value, *_bootstrap((parts, wholes), _ratios), len(parts) if count is None else count
    )


def mean(values: Sequence[float]) -> Figure:
    """Return the mean of one number a row, with the percentile bootstrap over rows."""
    return ratio(values, [1.0] * len(values))


def macro_f1(truth: Sequence[int], answered: Sequence[int], labels: int) -> Figure:
    """Return the mean F1 of all labels, with the percentile bootstrap over rows.

    Args:
        truth: int (rows,), the label of each row, from 0 to below ``labels``.
        answered: int (rows,), the label answered; ``labels`` for none of them.
        labels: How many there are.
    """
    if not truth:
        return NOTHING

    def of(truth: NDArray[Any], answered: NDArray[Any], axis: int) -> NDArray[Any]:
        total = np.zeros(np.asarray(truth).sum(axis).shape)
        for label in range(labels):
            expected, found = truth == label, answered == label
            either = expected.sum(axis) + found.sum(axis)
            total += 2 * (expected & found).sum(axis) / np.where(either == 0, 1, either)
        return total / labels

    columns = np.asarray(truth), np.asarray(answered)
    value = float(of(*columns, axis=-1))
    return Figure(value, *_bootstrap((truth, answered), of), len(truth))


def resampled_sums(rows: NDArray[Any], score: Callable[[NDArray[Any]], float]) -> Figure:
    """Return a score of the rows' sum, with the percentile bootstrap over rows.

    Args:
        rows: float (rows, numbers), at least one row.
        score: Makes one number of float (numbers,).
    """
    count = len(rows)
    value = score(rows.sum(axis=0))
    if count < 2:
        return Figure(value, None, None, count)
    choice = np.random.default_rng(SEED)
    often = [1 / count] * count
    scores = [score(choice.multinomial(count, often) @ rows) for _ in range(RESAMPLES)]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(scores, [tail, 100 - tail])
    return Figure(value, float(low), float(high), count)


def _ratios(parts: NDArray[Any], wholes: NDArray[Any], axis: int) -> NDArray[Any]:
    total = wholes.sum(axis)
    found: NDArray[Any] = parts.sum(axis) / np.where(total == 0, 1, total)
    return found


def _bootstrap(
    columns: tuple[Sequence[float], ...], statistic: Callable[..., Any]
) -> tuple[float | None, float | None]:
    if len(columns[0]) < 2:
        return None, None
    arrays = tuple(np.asarray(column, float) for column in columns)
    found = stats.bootstrap(
        arrays,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=BATCH,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=SEED,
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)
