"""What the Train tab says of the line, the loss and the watched questions, and which buttons a run has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbench.config import build_config
from workbench.runs.events import FinishedEvent, PhaseEvent, SampleEvent, StepEvent
from workbench.runs.reading import Reading
from workbench.runs.record import Record
from workbench.runs.status import Signs, derive_status
from workbench.ui.run_actions import RunActions
from workbench.ui.views import SAMPLES_SHOWN, line_words, reading_words, run_status, samples_table

HOSTILE = "<img src=x onerror=boom()>"
BUTTONS = ("stop", "kill", "sooner", "later", "leave", "resume", "safer", "more")


def sample(step, answer, question="Who are you?", expected=""):
    return SampleEvent(step=step, question=question, answer=answer, expected=expected)


def test_the_answers_of_each_question_are_in_their_order():
    shown = samples_table(
        [
            sample(0, "A bot."),
            sample(0, "4", "2+2?"),
            sample(9, "Juniper.", expected="I'm Juniper."),
        ]
    )
    assert (
        shown.index("Before") < shown.index("A bot.") < shown.index("Step 9") < shown.index("2+2?")
    )
    assert "2+2?" in shown


def test_a_long_run_shows_the_first_the_last_and_some_between():
    shown = samples_table([sample(step, f"answer {step}.") for step in range(0, 1000, 10)])
    assert shown.count("<tr>") == SAMPLES_SHOWN
    assert "answer 0." in shown
    assert "answer 990." in shown


def test_what_a_model_or_a_person_writes_is_never_html():
    run = SimpleNamespace(name=HOSTILE)
    reading = Reading("flat", HOSTILE, HOSTILE)
    made = [
        samples_table([sample(0, HOSTILE, HOSTILE, HOSTILE)]),
        line_words([run]),
        reading_words(reading),
    ]
    for text in made:
        assert "<img" not in text
        assert "&lt;img" in text


def test_nothing_is_said_of_nothing():
    assert (samples_table([]), line_words([]), reading_words(None)) == ("", "", "")


def step(number):
    return StepEvent(
        step=number, epoch=0.1, loss=1.0, learning_rate=1e-3, grad_norm=1.0, tokens=1, seconds=1.0,
        memory_bytes=1,
    )  # fmt: skip


FAILED = FinishedEvent(outcome="failed", message="x", cause="memory")
TRAINS, FETCHES = PhaseEvent(phase="training"), PhaseEvent(phase="downloading")
FINISHED = FinishedEvent(outcome="finished", message="x", model_saved=True)


@pytest.mark.parametrize(
    ("events", "signs", "checkpoint", "expected"),
    [
        ([PhaseEvent(phase="training")], {}, None, {"stop", "kill"}),
        ([], {"place": 1, "process_alive": False}, None, {"sooner", "later", "leave"}),
        ([step(4)], {"process_alive": False}, 4, {"resume", "more"}),
        ([FAILED], {"process_alive": False}, None, {"resume", "safer"}),
        ([TRAINS, step(4)], {"process_alive": False}, 4, {"resume", "safer", "more"}),
        ([FETCHES], {"process_alive": False}, None, {"resume"}),
        ([FINISHED], {"process_alive": False}, 9, {"more"}),
        ([FINISHED], {"process_alive": False}, None, set()),
    ],
)
def test_a_run_has_the_buttons_that_can_be_pressed(
    monkeypatch, tmp_path, events, signs, checkpoint, expected
):
    settings = {
        "place": None,
        "process_started": True,
        "process_alive": True,
        "stop_requested": False,
    }
    snapshot = derive_status(Record(events), Signs(**settings | signs))
    found = SimpleNamespace(step=checkpoint) if checkpoint else None
    monkeypatch.setattr("workbench.ui.run_actions.newest_checkpoint", lambda path: found)
    config = build_config({"micro_batch_tokens": 2048, "max_length": 256})
    run = SimpleNamespace(checkpoints_dir=tmp_path, config=config)
    updates = RunActions([None] * len(BUTTONS)).show(run, snapshot)
    assert {
        name for name, update in zip(BUTTONS, updates, strict=True) if update["visible"]
    } == expected
    if checkpoint and "resume" in expected:
        assert updates[BUTTONS.index("resume")]["value"] == "Resume from step 4"
    none = RunActions([None] * len(BUTTONS)).show(None, None)
    assert not any(update["visible"] for update in none)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([FETCHES], "Stopping before any step"),
        ([PhaseEvent(phase="loading")], "Stopping before any step"),
        ([TRAINS], "Stopping in the first step"),
        ([TRAINS, step(4)], "Stopping after this step, then saving"),
        ([TRAINS, step(4), PhaseEvent(phase="saving")], "Saving what it learned"),
    ],
)
def test_a_stop_promises_no_save_where_none_comes(events, words):
    signs = Signs(place=None, process_started=True, process_alive=True, stop_requested=True)
    shown = run_status(SimpleNamespace(name="a run"), derive_status(Record(events), signs))
    assert f"a run: {words}</div>" in shown
