"""The chart panel without a browser."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import gradio as gr
import pytest

from workbench.runs.events import EvaluationEvent, StepEvent
from workbench.ui.chart_panel import PLOTLY_PATH, build_chart_panel

CHOSEN = ("step", 0.85, False, "learning_rate")


@dataclass(frozen=True)
class FakeSnapshot:
    steps: tuple = ()
    evaluations: tuple = ()
    is_active: bool = True
    total_steps: int = 10


def step(number, loss=1.0, time=0.0):
    return StepEvent(
        step=number, epoch=0.1, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=10, seconds=1.0,
        memory_bytes=10**9, time=time,
    )  # fmt: skip


TWO_STEPS = FakeSnapshot((step(1), step(2, loss=0.5)))


@pytest.fixture
def panel():
    with gr.Blocks():
        return build_chart_panel(None, gr.Dropdown(["one"]))


def drawn(panel, snapshot, before="", chosen=CHOSEN):
    """Return the figure, or None where nothing was drawn, and what is drawn now."""
    value, now = panel.draw("one", snapshot, before, *chosen)
    is_new = isinstance(value, str) and value
    return (json.loads(value) if is_new else None), (now if isinstance(now, str) else before)


def test_there_is_a_value_for_every_output_and_every_choice(panel):
    assert len(panel.draw("one", TWO_STEPS, "", *CHOSEN)) == len(panel.outputs)
    assert [component.value for component in panel.components] == list(CHOSEN)
    assert panel.inputs[0] is panel.drawn


@pytest.mark.parametrize("snapshot", [None, FakeSnapshot()])
def test_without_points_there_is_no_chart(panel, snapshot):
    figure, now = drawn(panel, snapshot, "something")
    assert figure is None
    assert now == ""
    assert panel.show(snapshot).visible is False
    assert panel.show(TWO_STEPS).visible is True


def test_what_is_drawn_already_is_not_drawn_again(panel):
    figure, now = drawn(panel, TWO_STEPS)
    assert len(figure["data"]) == 3
    assert drawn(panel, TWO_STEPS, now) == (None, now)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": (step(1), step(2), step(3))},
        {"steps": (step(1), step(2, time=5.0))},  # the run went on from a checkpoint
        {"evaluations": (EvaluationEvent(step=0, loss=1.0, seconds=1.0),)},
        {"is_active": False},
    ],
)
def test_what_changed_is_drawn(panel, change):
    _, now = drawn(panel, TWO_STEPS)
    assert drawn(panel, replace(TWO_STEPS, **change), now)[0] is not None


@pytest.mark.parametrize("place", range(4))
def test_every_choice_draws_again(panel, place):
    others = ("epoch", 0.5, True, "memory")
    chosen = (*CHOSEN[:place], others[place], *CHOSEN[place + 1 :])
    before, now = drawn(panel, TWO_STEPS)
    after, _ = drawn(panel, TWO_STEPS, now, chosen)
    assert after != before


def test_the_axis_of_a_run_that_ended_goes_no_farther_than_it_came(panel):
    running, _ = drawn(panel, TWO_STEPS)
    ended, _ = drawn(panel, replace(TWO_STEPS, is_active=False))
    assert running["layout"]["xaxis"]["range"] == [0, 10]
    assert "range" not in ended["layout"]["xaxis"]


def test_the_browser_gets_plotly_from_here():
    assert PLOTLY_PATH.is_file()
