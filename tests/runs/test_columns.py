from __future__ import annotations

import csv
import io
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from workbench.runs.columns import (
    MAX_POINTS,
    RUNS_KEPT,
    Columns,
    ColumnsCache,
    sample,
    smooth,
    steps_csv,
)
from workbench.runs.events import EvaluationEvent, StepEvent


def steps(losses):
    return [
        StepEvent(
            step=number, epoch=number / 4, loss=loss, learning_rate=1e-3, grad_norm=None, tokens=10,
            seconds=0.5, memory_bytes=2 * 10**9, time=1_000_000.0 + number,
        )
        for number, loss in enumerate(losses, 1)
    ]  # fmt: skip


def test_columns_hold_what_the_steps_say():
    columns = Columns.of(steps([2.0, None]))
    assert columns["step"].tolist() == [1, 2]
    assert columns["time"].tolist() == [1_000_001, 1_000_002]
    np.testing.assert_array_equal(columns["loss"], [2.0, np.nan])
    assert np.isnan(columns["grad_norm"]).all()
    assert len(Columns.of([])["loss"]) == 0


def test_new_steps_are_appended_and_known_ones_are_not_read_again():
    class Counting(list):
        read = 0

        def __getitem__(self, key):
            found = super().__getitem__(key)
            self.read += len(found) if isinstance(key, slice) else 1
            return found

    events = Counting(steps([3.0, 2.0, 1.0, 0.5]))
    columns = Columns.of(steps([3.0, 2.0])).extended(events)
    assert columns["loss"].tolist() == [3.0, 2.0, 1.0, 0.5]
    assert events.read == 3  # two new ones, and the last known one, to compare
    assert columns.extended(events) is columns


@pytest.mark.parametrize("resumed_count", [2, 3, 4])
def test_a_run_that_went_on_from_a_checkpoint_is_converted_anew(resumed_count):
    before = steps([3.0, 2.0, 1.0])
    later = [replace(step, loss=9.0, time=time.time()) for step in steps([0.0] * 4)[1:]]
    resumed = [before[0], *later][:resumed_count]
    columns = Columns.of(before).extended(resumed)
    assert columns["loss"].tolist() == [3.0, 9.0, 9.0, 9.0][:resumed_count]


def test_the_cache_keeps_runs_apart_and_few_of_them():
    cache = ColumnsCache()
    assert len(cache.get("one", steps([1.0]))) == 1
    assert cache.get("one", steps([1.0])) is cache.get("one", steps([1.0]))
    assert cache.get("two", steps([5.0, 6.0]))["loss"].tolist() == [5.0, 6.0]
    for number in range(RUNS_KEPT):
        cache.get(f"more {number}", steps([1.0]))
    assert len(cache._columns) == RUNS_KEPT
    assert "one" not in cache._columns


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.85, 0.99])
def test_smoothing_never_rewrites_the_past_and_starts_at_the_first_value(weight):
    values = np.array([4.0, 3.0, 5.0, 1.0, np.nan, 0.5])
    whole = smooth(values, weight)
    assert whole[0] == 4.0
    assert np.isnan(whole[4])
    for count in range(1, len(values)):
        np.testing.assert_array_equal(smooth(values[:count], weight), whole[:count])
    assert whole[5] == smooth(np.delete(values, 4), weight)[4]


def test_smoothing_is_the_average_with_bias_correction():
    values, weight = np.array([4.0, 3.0, 5.0, 1.0]), 0.8
    average = 0.0
    for count, value in enumerate(values, 1):
        average = weight * average + (1 - weight) * value
        assert smooth(values, weight)[count - 1] == pytest.approx(average / (1 - weight**count))


def test_no_smoothing_shows_every_value():
    values = np.array([4.0, 3.0, 5.0])
    assert smooth(values, 0.0).tolist() == values.tolist()


@pytest.mark.parametrize("count", [0, 1, 5, MAX_POINTS])
def test_a_short_curve_is_shown_whole(count):
    assert sample(np.zeros(count)).tolist() == list(range(count))


@pytest.mark.parametrize("count", [MAX_POINTS + 1, 4097, 100_000])
def test_of_a_long_curve_ends_and_extremes_stay(count):
    values = np.sin(np.arange(count) / 50)
    values[count // 3], values[count // 2] = 99.0, -99.0
    kept = sample(values)
    assert len(kept) <= MAX_POINTS + 2
    assert (np.diff(kept) > 0).all()
    assert {0, count // 3, count // 2, count - 1} <= set(kept.tolist())


def test_a_curve_with_nothing_in_it_is_sampled_too():
    kept = sample(np.full(5000, np.nan))
    assert kept[0] == 0
    assert kept[-1] == 4999


def test_new_points_seldom_change_which_old_ones_are_drawn():
    values = np.random.default_rng(1).normal(size=3000)
    before, after = set(sample(values[:2500]).tolist()), set(sample(values).tolist())
    changed = {place for place in before ^ after if place < 2490}
    assert changed == set()


def test_the_table_has_every_step_and_every_check():
    checks = [
        EvaluationEvent(step=0, loss=3.0, seconds=1.0),
        EvaluationEvent(step=2, loss=1.5, seconds=1.0, token_accuracy=0.75),
    ]
    rows = list(csv.DictReader(io.StringIO(steps_csv(Columns.of(steps([2.0, None])), checks))))
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert [row["loss"] for row in rows] == ["", "2.0", ""]
    assert [row["validation_loss"] for row in rows] == ["3.0", "", "1.5"]
    assert rows[2]["validation_token_accuracy"] == "0.75"
    assert rows[1]["memory_bytes"] == "2000000000"
    assert rows[1]["time"] == "1000001.0"


def test_a_table_of_nothing_has_its_head():
    assert steps_csv(Columns.of([]), []).startswith("step,")
    assert len(pd.read_csv(io.StringIO(steps_csv(Columns.of([]), [])))) == 0
