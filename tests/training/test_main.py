"""The last word of a training process."""

from __future__ import annotations

import pytest

from tests.made_runs import make_run
from workbench.runs.events import FinishedEvent, read_events
from workbench.training.__main__ import _emit_last, _stopped_early


def test_the_last_word_is_read_although_the_disk_was_full_in_the_middle_of_a_line(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind": "step", "time": 1.0, "st')
    _emit_last(path, FinishedEvent(outcome="failed", message="The disk is full.", cause="disk"))
    (event,) = read_events(path)[0]
    assert event.message == "The disk is full."


@pytest.mark.parametrize("steps", [0, 4])
def test_a_stop_before_the_first_step_of_a_process_says_what_is_there(services, steps):
    run = make_run(services.runs, outcome="")
    if steps:  # an earlier process stopped after them
        run.model_dir.mkdir()
        checkpoint_dir = run.checkpoints_dir / f"checkpoint-{steps}"
        checkpoint_dir.mkdir(parents=True)
        (checkpoint_dir / "complete.json").write_text("{}")
    said = _stopped_early(run)
    assert said.model_saved == bool(steps)
    assert ("What it learned in 4 steps is kept" in said.message) == bool(steps)
