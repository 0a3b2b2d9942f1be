import pytest

from workbench.runs.events import FinishedEvent, PhaseEvent, StartEvent, StepEvent
from workbench.runs.status import derive_status

START = StartEvent(
    total_steps=10, train_rows=8, validation_rows=0, left_out_rows=0, supervised_tokens=8,
    parameters=1, trained_parameters=1, device="cpu", precision="fp32", threads=1,
)  # fmt: skip


def step(number, seconds=2.0, tokens=100):
    return StepEvent(
        time=float(number), step=number, epoch=0.1, loss=1.0, learning_rate=1e-3, grad_norm=1.0,
        tokens=tokens, seconds=seconds, memory_bytes=7,
    )  # fmt: skip


def derive(events, *, started=True, alive=True, stop=False):
    return derive_status(
        events,
        process_started=started,
        process_alive=alive,
        stop_requested=stop,
        created=0.0,
        now=50.0,
    )


FINISHED = FinishedEvent(outcome="finished", message="Done.", model_saved=True)


@pytest.mark.parametrize(
    ("events", "flags", "state"),
    [
        ([], {"started": False, "alive": False}, "queued"),
        ([], {}, "starting"),
        ([PhaseEvent(phase="loading")], {}, "running"),
        ([PhaseEvent(phase="training")], {"stop": True}, "stopping"),
        ([PhaseEvent(phase="training")], {"alive": False}, "lost"),
        ([], {"alive": False}, "lost"),
        ([PhaseEvent(phase="training")], {"alive": False, "stop": True}, "stopped"),
        ([FINISHED], {}, "finished"),
        ([FINISHED], {"alive": False}, "finished"),
        ([FINISHED], {"alive": False, "stop": True}, "finished"),
        ([FinishedEvent(outcome="failed", message="x")], {"alive": False}, "failed"),
    ],
)
def test_states(events, flags, state):
    snapshot = derive(events, **flags)
    assert snapshot.state == state
    assert snapshot.is_active == (state in ("queued", "starting", "running", "stopping"))


def test_a_lost_run_says_what_to_do():
    assert "memory" in derive([PhaseEvent(phase="training")], alive=False).hint


def test_time_left_is_the_median_step_times_what_is_left():
    steps = [step(1), step(2), step(3, seconds=60.0)]  # one slow step does not disturb it
    assert derive([START, *steps]).eta_seconds == pytest.approx(7 * 2.0)


def test_speed_counts_tokens_over_seconds():
    assert derive([START, step(1), step(2)]).tokens_per_second == pytest.approx(50.0)


def test_nothing_is_claimed_before_it_is_measured():
    snapshot = derive([START])
    assert (snapshot.eta_seconds, snapshot.tokens_per_second, snapshot.memory_bytes) == (None,) * 3


def test_the_clock_stops_with_the_run():
    assert derive([step(30)], alive=False).elapsed_seconds == 30.0
    assert derive([step(30)]).elapsed_seconds == 50.0
