import re
import time
from types import SimpleNamespace

import pytest

from workbench.runs.events import StepEvent, WarningEvent
from workbench.training.device_use import CpuUse
from workbench.training.reporter import COMPARED_STEPS, Reporter, checks_without_gain
from workbench.training.trainer import StepFigures


def warnings_after(
    step_seconds, planned, planned_memory=None, needed_bytes=0, steps=COMPARED_STEPS + 1, total=600
):
    events = []
    reporter = Reporter(events.append, lambda: False, planned, planned_memory)
    needed = b"x" * needed_bytes  # taken after the watch began
    time.sleep(0.1 if planned_memory else 0)
    for step in range(1, steps + 1):
        reporter.on_step_computed(StepFigures(100, step_seconds, 0.5))
        state = SimpleNamespace(global_step=step, epoch=0.1, max_steps=total)
        reporter.on_log(None, state, None, {"loss": 1.0, "learning_rate": 1e-3})
    reporter.on_train_end(None, state, None)
    assert len(needed) == needed_bytes
    emitted = [event for event in events if isinstance(event, StepEvent)]
    assert len(emitted) == steps
    assert all(0 <= step.device_use <= 1 for step in emitted)
    return [event.message for event in events if isinstance(event, WarningEvent)]


def test_steps_that_take_much_longer_than_planned_are_told_once():
    (message,) = warnings_after(3.0, planned=2.0)
    assert "3.0 s where 2.0 s were planned" in message
    assert warnings_after(0.05, planned=0.03) == []
    assert "30 minutes" in message


def test_steps_that_take_much_less_than_planned_are_told_once():
    (message,) = warnings_after(3.0, planned=9.0)
    assert "3.0 s where 9.0 s were planned" in message
    assert "about 30 minutes: sooner than the plan said." in message


def test_a_run_of_few_steps_is_compared_at_its_last():
    (message,) = warnings_after(60.0, planned=20.0, steps=2, total=2)
    assert "60.0 s where 20.0 s were planned, so all 2 steps" in message
    assert warnings_after(60.0, planned=20.0, steps=2, total=600) == []


@pytest.mark.parametrize("planned", [None, 2.6, 3.5])
def test_what_goes_as_planned_is_not(planned):
    assert warnings_after(3.0, planned) == []


def test_much_more_memory_than_planned_is_told():
    (message,) = warnings_after(3.0, None, 20_000_000, needed_bytes=60_000_000)
    assert re.match(r"Training needs [67]\d MB of memory where 20 MB were planned", message)


def test_much_less_memory_than_planned_is_told_at_the_end():
    needed = {"needed_bytes": 60_000_000}
    (message,) = warnings_after(3.0, None, 200_000_000, **needed, steps=6, total=6)
    assert re.match(r"Training needed [67]\d MB of memory at most where 200 MB were", message)
    assert warnings_after(3.0, None, 200_000_000, **needed, steps=6, total=600) == []  # stopped


def test_memory_as_planned_is_not_told():
    assert warnings_after(3.0, None, 60_000_000, needed_bytes=60_000_000) == []


@pytest.mark.parametrize(
    ("losses", "gain", "count"),
    [
        ([], 0.0, 0),
        ([3.0], 0.0, 0),
        ([3.0, 2.0, 1.0], 0.0, 0),
        ([3.0, 2.0, 2.0, 2.5], 0.0, 2),
        ([3.0, 2.0, 2.5, 1.9], 0.0, 0),
        ([3.0, 2.9, 2.8], 0.5, 2),  # each gained, but too little
        ([3.0, float("nan"), float("nan")], 0.0, 2),
    ],
)
def test_checks_without_gain_are_those_since_the_best(losses, gain, count):
    assert checks_without_gain(losses, gain) == count


def test_a_process_that_computes_is_busy_and_one_that_waits_is_not():
    use = CpuUse()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    busy = use.share()
    time.sleep(0.3)
    assert busy > 0.1 > use.share() + 0.05
