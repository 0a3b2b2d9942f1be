from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.models.tokens import Histogram
from workbench.runs.columns import MAX_POINTS, Columns, smooth
from workbench.runs.events import EvaluationEvent, StepEvent
from workbench.runs.side_by_side import RUN_COLORS
from workbench.ui.charts import (
    METRICS,
    ChartView,
    as_text,
    comparison_figure,
    length_figure,
    run_figure,
)

NASTY = '<b>%{x}</b> & <a href="javascript:alert(1)">x</a>'


def columns(losses, accuracy=0.5):
    return Columns.of([
        StepEvent(
            step=number, epoch=number / 4, loss=loss, learning_rate=1e-3, grad_norm=2.0, tokens=10,
            seconds=15.0, memory_bytes=3 * 10**9, token_accuracy=accuracy, device_use=0.75, time=1000.0 + 30 * number,
        )
        for number, loss in enumerate(losses, 1)
    ])  # fmt: skip


CHECKS = [
    EvaluationEvent(step=0, loss=3.0, seconds=1.0, token_accuracy=0.25),
    EvaluationEvent(step=4, loss=1.5, seconds=1.0, token_accuracy=0.5),
]


def draw(losses, checks=(), *, total_steps=0, accuracy=0.5, **view):
    return run_figure(columns(losses, accuracy), checks, ChartView(**view), total_steps=total_steps)


def names(figure):
    return [trace.name for trace in figure.data]


def trace(figure, name):
    return next(trace for trace in figure.data if trace.name.startswith(name))


def test_the_first_curve_is_the_loss_of_every_step():
    figure = draw([3.0, 2.0, 1.0])
    assert figure.data[0].name.startswith("Training loss (each step)")
    assert figure.data[0].x.tolist() == [1, 2, 3]
    assert figure.data[0].y.tolist() == [3.0, 2.0, 1.0]


def test_a_run_has_loss_above_and_one_metric_below():
    figure = draw([3.0, 2.0], CHECKS)
    assert names(figure) == [
        "Training loss (each step)", "Training loss (smoothed)", "Validation loss (rows held back)",
        "Learning rate",
    ]  # fmt: skip
    assert [trace.yaxis for trace in figure.data] == [None, None, None, "y2"]


def test_no_curve_is_promised_that_is_not_there():
    assert not any("Validation" in name or "number" in name for name in names(draw([3.0, 2.0])))


@pytest.mark.parametrize("smoothing", [0.0, 0.5, 0.99])
def test_the_smoothed_curve_follows_the_slider(smoothing):
    losses = [3.0, 1.0, 2.0, 0.5]
    drawn = trace(draw(losses, smoothing=smoothing), "Training loss (smoothed)")
    expected = smooth(np.array(losses), smoothing)
    np.testing.assert_allclose(drawn.y, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("x", "steps", "checks"),
    [
        ("step", [1, 2, 3, 4], [0, 4]),
        ("epoch", [0.25, 0.5, 0.75, 1.0], [0, 1.0]),
        ("time", [0.25, 0.5, 0.75, 1.0], [0, 1.0]),
    ],
)
def test_steps_and_checks_lie_on_the_axis_that_was_chosen(x, steps, checks):
    figure = draw([3.0, 2.0, 1.0, 0.5], CHECKS, x=x)
    assert figure.data[0].x.tolist() == steps
    assert trace(figure, "Validation").x.tolist() == checks


def test_a_pause_or_a_clock_that_was_set_is_no_time_of_training():
    steps = [
        StepEvent(
            step=number, epoch=0.1, loss=1.0, learning_rate=1e-3, grad_norm=1.0, tokens=1,
            seconds=30.0, memory_bytes=1, time=time,
        )
        for number, time in enumerate([1000.0, 1030.0, 90_000.0, 500.0], 1)
    ]  # fmt: skip
    figure = run_figure(Columns.of(steps), [], ChartView(x="time"))
    assert figure.data[0].x.tolist() == [0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("x", ["step", "epoch", "time"])
def test_a_check_before_the_first_step_can_be_drawn(x):
    figure = draw([], CHECKS[:1], x=x)
    assert trace(figure, "Validation").x.tolist() == [0]
    assert len(figure.data[0].x) == 0


def test_the_axis_of_steps_goes_as_far_as_the_run_will():
    assert draw([3.0], total_steps=50).layout.xaxis.range == (0, 50)
    assert draw([3.0], total_steps=50, x="time").layout.xaxis.range is None
    assert draw([3.0]).layout.xaxis.range is None


def test_the_loss_may_be_logarithmic_and_the_metric_never():
    layout = draw([3.0], log=True).layout
    assert layout.yaxis.type == "log"
    assert layout.yaxis2.type is None
    assert draw([3.0]).layout.yaxis.type == "linear"


def test_a_loss_that_was_not_a_number_is_marked_where_it_happened():
    figure = draw([None, 3.0, None, None, 2.0])
    marks = trace(figure, "Loss was not a number")
    assert marks.x.tolist() == [1, 3, 4]
    assert marks.y.tolist() == [3.0, 3.0, 3.0]
    assert marks.marker.color == "#d13b3b"
    assert "not a number" in marks.hovertemplate
    np.testing.assert_array_equal(figure.data[0].y, [np.nan, 3.0, np.nan, np.nan, 2.0])


def test_a_validation_loss_that_was_not_a_number_is_marked_too():
    lost = EvaluationEvent(step=4, loss=None, seconds=1.0)
    marks = trace(draw([3.0] * 4, [CHECKS[0], lost]), "Validation loss was not a number")
    assert (marks.x.tolist(), marks.y.tolist()) == ([4], [3.0])
    assert marks.marker.color == "#d13b3b"
    assert not [name for name in names(draw([3.0], CHECKS)) if "not a number" in name]


def test_a_run_without_a_single_loss_can_be_drawn():
    assert trace(draw([None, None]), "Loss was not a number").x.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("metric", "value"),
    [("learning_rate", 1e-3), ("token_accuracy", 0.5), ("grad_norm", 2.0), ("speed", 10 / 15), ("memory", 3.0), ("device_use", 0.75)],
)  # fmt: skip
def test_every_metric_can_be_shown_below(metric, value):
    figure = draw([3.0, 2.0], metric=metric)
    below = [curve for curve in figure.data if curve.yaxis == "y2"]
    np.testing.assert_allclose(below[0].y, [value, value], rtol=1e-6)
    assert below[0].name == METRICS[metric].label == figure.layout.yaxis2.title.text
    assert metric in METRICS


def test_accuracy_is_shown_on_the_rows_held_back_too():
    figure = draw([3.0, 2.0], CHECKS, metric="token_accuracy")
    held_back = trace(figure, "Token accuracy (rows held back)")
    assert held_back.y.tolist() == [0.25, 0.5]
    assert "%{y:.2%}" in held_back.hovertemplate


def test_a_metric_that_was_not_measured_says_so():
    figure = draw([3.0, 2.0], accuracy=None, metric="token_accuracy")
    assert "not measured" in figure.layout.annotations[0].text
    assert not draw([3.0, 2.0], metric="token_accuracy").layout.annotations


def test_the_zoom_stays_until_what_is_zoomed_changes():
    def key(axis, **view):
        return draw([3.0], **view).layout[axis].uirevision

    assert key("xaxis", smoothing=0.1) == key("xaxis", metric="memory")
    assert key("xaxis", x="time") != key("xaxis")
    assert key("yaxis", log=True) != key("yaxis")
    assert key("yaxis2", metric="memory") != key("yaxis2")
    first = run_figure(columns([1.0]), [], ChartView(), zoom_key="a").layout
    assert first.xaxis.uirevision != draw([1.0]).layout.xaxis.uirevision


@pytest.fixture(scope="module")
def long_run():
    random = np.random.default_rng(1)
    losses = [*np.exp(random.normal(0, 0.2, 100_000))]
    losses[777] = losses[55_555] = None
    losses[33_333] = 50.0
    return columns(losses)


@pytest.mark.parametrize("metric", METRICS)
def test_a_long_run_is_sent_in_few_points(long_run, metric):
    checks = [EvaluationEvent(step=step, loss=1.0, seconds=1.0) for step in range(0, 100_000, 50)]
    figure = run_figure(long_run, checks, ChartView(x="time", metric=metric))
    assert all(len(curve.x) <= MAX_POINTS + 2 for curve in figure.data)
    assert len(figure.to_json()) < 100_000


def test_of_a_long_run_ends_peaks_and_lost_losses_are_kept(long_run):
    figure = run_figure(long_run, [], ChartView())
    assert {1, 33_334, 100_000} <= set(figure.data[0].x.tolist())
    assert trace(figure, "Loss was not a number").x.tolist() == [778, 55_556]


def test_a_drawn_point_of_the_smoothed_curve_never_moves(long_run):
    part = Columns(long_run.table[:, :60_000], None)
    before, after = (
        trace(run_figure(shown, [], ChartView()), "Training loss (smoothed)")
        for shown in (part, long_run)
    )
    earlier = dict(zip(before.x.tolist(), before.y.tolist(), strict=True))
    later = dict(zip(after.x.tolist(), after.y.tolist(), strict=True))
    both = earlier.keys() & later.keys()
    assert len(both) > 300
    assert all(earlier[step] == later[step] for step in both)


def test_several_runs_are_compared_each_in_a_color_of_its_own():
    runs = [(f"run {number}", columns([3.0, 2.0]), CHECKS) for number in range(8)]
    figure = comparison_figure(runs)
    assert names(figure)[:4] == [
        "run 0: training", "run 0: validation", "run 1: training", "run 1: validation",
    ]  # fmt: skip
    looks = [(curve.line.color, curve.line.dash) for curve in figure.data[::2]]
    assert len(set(looks)) == len(runs)
    assert {color for color, _ in looks} == set(RUN_COLORS)
    assert figure.data[0].line.color == figure.data[1].line.color
    assert figure.data[0].legendgroup == figure.data[1].legendgroup != figure.data[2].legendgroup


def test_a_comparison_follows_axis_smoothing_and_scale():
    figure = comparison_figure([("a", columns([3.0, 1.0]), [])], "time", 0.0, True)
    assert figure.data[0].x.tolist() == [0.25, 0.5]
    assert figure.data[0].y.tolist() == [3.0, 1.0]
    assert figure.layout.yaxis.type == "log"
    assert len(figure.data) == 1
    assert comparison_figure([]).data == ()


def test_the_name_of_a_run_is_text_whatever_it_holds():
    figure = comparison_figure([(NASTY, columns([3.0]), [])])
    assert "<" not in figure.data[0].name
    assert "%{x}" not in figure.data[0].hovertemplate
    assert as_text("a < b & c") == "a &lt; b &amp; c"
    assert as_text("n" * 100) == "n" * 39 + "…"


def test_the_lengths_of_examples_are_drawn_with_their_limit():
    figure = length_figure(Histogram([1, 11, 21], [5, 3]), limit_tokens=10)
    assert figure.data[0].customdata == ("1 to 10", "11 and more")
    assert "maximum length" in json.dumps(figure.to_plotly_json()["layout"], default=str)
