"""What a look at a run says without a browser: nothing new while only its steps go on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.made_runs import make_run
from workbench.runs.events import EvaluationEvent, StepEvent, append_event
from workbench.runs.queue import join
from workbench.runs.status import AT_ONCE
from workbench.runs.strength import keep_strength
from workbench.ui import train_tab
from workbench.ui.train_tab import situation_of


@pytest.fixture
def run(services):
    return make_run(services.runs, "one", steps=5, outcome=None)


def situation(services, run):
    run = services.runs.get(run.id)
    return situation_of(services, run, services.supervisor.snapshot(run))


def one_more_step(run):
    append_event(
        run.events_path,
        StepEvent(
            step=6, epoch=1.0, loss=1.0, learning_rate=1e-4, grad_norm=1.0, tokens=1, seconds=1.0,
            memory_bytes=1,
        ),
    )  # fmt: skip


def test_a_step_is_no_other_situation(services, run):
    before = situation(services, run)
    one_more_step(run)
    assert situation(services, run) == before


def test_while_it_trains_it_is_another_one_every_few_seconds(services, run, monkeypatch):
    snapshot = replace(services.supervisor.snapshot(run), state="running")

    def at(now):
        monkeypatch.setattr(train_tab, "time", SimpleNamespace(time=lambda: now))
        return situation_of(services, run, snapshot)

    assert at(100.0) == at(101.0) != at(100.0 + train_tab.SELDOM_SECONDS)


@pytest.mark.parametrize(
    "change",
    [
        lambda services, run: append_event(run.events_path, EvaluationEvent(step=6, loss=1.0, seconds=1.0)),
        lambda services, run: services.runs.label(run, "two", (), ""),
        lambda services, run: run.stop_path.write_text(AT_ONCE),
        lambda services, run: keep_strength(run, 0.5),
        lambda services, run: run.evaluation_due_path.touch(),
        lambda services, run: join(services.runs, make_run(services.runs, "next", outcome=None)),
    ],
    ids=["check", "name", "stopped", "strength", "evaluation due", "line"],
)  # fmt: skip
def test_what_changes_more_than_the_progress_is_another_situation(services, run, change):
    before = situation(services, run)
    change(services, run)
    assert situation(services, run) != before


def test_without_a_run_the_line_is_the_situation(services, run):
    before = situation_of(services, None, None)
    join(services.runs, run)
    assert situation_of(services, None, None) != before
