from types import SimpleNamespace

import pytest

from workbench.runs.events import StepEvent, WarningEvent
from workbench.training.reporter import COMPARED_STEPS, Reporter


def warnings_after(step_seconds, planned):
    events = []
    reporter = Reporter(events.append, lambda: False, planned)
    for step in range(1, COMPARED_STEPS + 2):
        reporter.on_step_computed(100, step_seconds)
        state = SimpleNamespace(global_step=step, epoch=0.1, max_steps=600)
        reporter.on_log(None, state, None, {"loss": 1.0, "learning_rate": 1e-3})
    assert len([event for event in events if isinstance(event, StepEvent)]) == COMPARED_STEPS + 1
    return [event.message for event in events if isinstance(event, WarningEvent)]


def test_steps_that_take_much_longer_than_planned_are_told_once():
    (message,) = warnings_after(3.0, planned=2.0)
    assert "3.0 s where 2.0 s were planned" in message
    assert "30 minutes" in message


@pytest.mark.parametrize("planned", [None, 2.9, 9.0])
def test_what_goes_as_planned_is_not(planned):
    assert warnings_after(3.0, planned) == []
