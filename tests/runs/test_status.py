from dataclasses import replace

import pytest

from workbench.runs.events import (
    CheckpointEvent,
    EvaluationEvent,
    FinishedEvent,
    GeneralEvent,
    PhaseEvent,
    ResumeEvent,
    SampleEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
)
from workbench.runs.record import Record
from workbench.runs.status import AT_ONCE, SILENT, Signs, derive_status

START = StartEvent(
    total_steps=10, train_rows=8, validation_rows=0, left_out_rows=0, supervised_tokens=8,
    parameters=1, trained_parameters=1, device="cpu", precision="fp32", threads=1,
)  # fmt: skip


def step(number, seconds=2.0, tokens=100, time=None):
    return StepEvent(
        time=float(number) if time is None else time, step=number, epoch=0.1, loss=1.0,
        learning_rate=1e-3, grad_norm=1.0, tokens=tokens, seconds=seconds, memory_bytes=7,
    )  # fmt: skip


def evaluation(number, loss):
    return EvaluationEvent(time=float(number), step=number, loss=loss, seconds=1.0)


def began(time):
    return PhaseEvent(time=float(time), phase="starting")


def derive(events, *, place=None, started=True, alive=True, stop=False, killed=""):
    signs = Signs(place, started, alive, stop or bool(killed), killed)
    return derive_status(Record(events), signs, now=50.0)


FINISHED = FinishedEvent(outcome="finished", message="Done.", model_saved=True)
FAILED = FinishedEvent(outcome="failed", message="x", cause="memory")


@pytest.mark.parametrize(
    ("events", "flags", "state"),
    [
        ([], {"started": False, "alive": False, "place": 1}, "queued"),
        ([FAILED], {"started": False, "alive": False, "place": 2}, "queued"),
        ([], {"started": False, "alive": False}, "stopped"),
        ([], {}, "starting"),
        ([PhaseEvent(phase="loading")], {}, "running"),
        ([PhaseEvent(phase="training")], {"stop": True}, "stopping"),
        ([PhaseEvent(phase="training")], {"alive": False}, "lost"),
        ([], {"alive": False}, "lost"),
        ([PhaseEvent(phase="training")], {"alive": False, "stop": True}, "lost"),  # while it saved
        ([PhaseEvent(phase="training")], {"alive": False, "killed": AT_ONCE}, "stopped"),
        ([PhaseEvent(phase="training")], {"alive": False, "killed": SILENT}, "stopped"),
        ([FINISHED], {}, "running"),  # it has not given its memory back yet
        ([FINISHED], {"alive": False}, "finished"),
        ([FINISHED], {"alive": False, "stop": True}, "finished"),
        ([FAILED], {"alive": False}, "failed"),
        ([FAILED, began(1)], {"alive": False}, "lost"),  # resumed, and killed
    ],
)
def test_the_state_follows_from_events_and_process(events, flags, state):
    snapshot = derive(events, **flags)
    assert snapshot.state == state
    assert snapshot.is_active == (state in ("queued", "starting", "running", "stopping"))
    assert snapshot.can_resume == (state in ("stopped", "failed", "lost"))


def test_a_run_that_leaves_says_so():
    assert derive([FINISHED]).phase == "leaving"
    assert derive([FINISHED], alive=False).phase != "leaving"


def test_a_run_that_waits_says_its_place():
    flags = {"started": False, "alive": False}
    assert "number 3" in derive([], place=3, **flags).message
    assert "run or test drive before it" in derive([], place=1, **flags).message


def test_a_run_that_was_taken_out_of_the_line_says_what_there_is_of_it():
    flags = {"started": False, "alive": False}
    assert "before it began" in derive([], **flags).message
    went_on = derive([step(4), CheckpointEvent(step=4, folder="checkpoint-4")], **flags)
    assert "The checkpoint of step 4 is kept" in went_on.message


def test_a_lost_run_says_what_to_do_and_what_is_kept():
    lost = derive([PhaseEvent(phase="training")], alive=False)
    assert "memory" in lost.message
    assert "begins anew" in lost.message
    kept = derive([step(4), CheckpointEvent(step=4, folder="checkpoint-4")], alive=False)
    assert "The checkpoint of step 4 is kept" in kept.message


def test_a_run_that_was_ended_says_why():
    events = [step(4), CheckpointEvent(step=4, folder="checkpoint-4")]
    at_once, silent = (derive(events, alive=False, killed=why) for why in (AT_ONCE, SILENT))
    assert at_once.message.startswith("Stopped at once. The checkpoint of step 4 is kept")
    assert silent.message.startswith("It did not answer to Stop and was ended. The checkpoint")


def test_time_is_left_only_while_something_works():
    assert derive([START, step(1)]).eta_seconds == 18.0
    assert derive([START, step(1), FINISHED], alive=False).eta_seconds is None


def test_a_run_that_begins_anew_forgets_all_it_said():
    general, sample = (
        GeneralEvent(step=0, loss=2.0),
        SampleEvent(step=0, question="Who?", answer="A bot."),
    )
    said = [general, START, evaluation(0, 2.0), sample, step(1), step(2)]
    once = derive([began(0), *said])
    again = derive([began(0), *said, began(9), ResumeEvent(step=0), *said])
    for name in ("general", "evaluations", "samples", "steps"):
        assert getattr(again, name) == getattr(once, name)


def test_a_run_that_goes_on_forgets_what_came_after_its_checkpoint():
    events = [START, step(1), step(2), evaluation(2, 1.5), step(3), evaluation(3, 0.5)]
    snapshot = derive([*events, began(9), ResumeEvent(time=10.0, step=2), step(3, time=11.0)])
    assert [event.step for event in snapshot.steps] == [1, 2, 3]
    assert snapshot.steps[-1].time == 11.0
    assert [event.step for event in snapshot.evaluations] == [2]


def test_a_check_that_is_made_again_counts_once():
    sample = SampleEvent(step=2, question="Who?", answer="A bot.")
    events = [START, step(1), step(2), evaluation(0, 3.0), evaluation(2, 1.5), sample]
    again = [began(9), ResumeEvent(step=2), evaluation(2, 1.5), sample]
    snapshot = derive([*events, *again])
    assert [event.step for event in snapshot.evaluations] == [0, 2]
    assert snapshot.samples == (sample,)


def test_what_each_process_warns_of_is_said_once():
    slow = WarningEvent(message="This model takes the slower path.")
    full = WarningEvent(message="The disk is full.")
    snapshot = derive([began(1), slow, began(9), ResumeEvent(step=0), slow, full])
    assert snapshot.warnings == (slow.message, full.message)


def test_the_best_check_is_the_lowest_after_the_first_step():
    events = [evaluation(0, 0.1), evaluation(2, 1.5), evaluation(4, None), evaluation(6, 1.8)]
    assert derive(events).best_evaluation.step == 2
    assert derive([evaluation(0, 0.1)]).best_evaluation is None
    assert derive([evaluation(0, 0.1)]).best_check("accuracy") is None
    right = [replace(evaluation(n, 2.0 - n / 9), token_accuracy=1 / n) for n in (3, 2, 4)]
    assert derive(right).best_check("accuracy").step == 2
    assert derive(right).best_check("loss").step == 4


def test_time_left_is_the_median_step_times_what_is_left():
    steps = [step(1), step(2), step(3, seconds=60.0)]  # one slow step does not disturb it
    assert derive([START, *steps]).eta_seconds == pytest.approx(7 * 2.0)


def test_speed_counts_tokens_over_seconds():
    assert derive([START, step(1), step(2)]).tokens_per_second == pytest.approx(50.0)


def test_nothing_is_claimed_before_it_is_measured():
    snapshot = derive([START])
    assert (snapshot.eta_seconds, snapshot.tokens_per_second, snapshot.memory_bytes) == (None,) * 3


def test_the_time_is_that_of_all_its_processes():
    assert derive([began(10), step(30)], alive=False).elapsed_seconds == 20.0
    assert derive([began(10), step(30)]).elapsed_seconds == 40.0
    twice = [began(10), step(30), began(40), ResumeEvent(time=41.0, step=30)]
    assert derive(twice).elapsed_seconds == 20.0 + 10.0
    assert derive([began(60)]).elapsed_seconds == 0.0  # the clock was set back
