"""The last word of a training process."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.made_runs import make_run
from workbench.errors import StopRequested, WorkbenchError
from workbench.runs.events import CheckpointEvent, FinishedEvent, read_events
from workbench.training import job
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


@pytest.fixture
def real_run(services, tiny_model_dir, alpaca_file):
    """A run of two steps that was never started."""
    values = {"model": str(tiny_model_dir), "max_steps": 2, "save_steps": 1, "batch_size": 4}
    values |= {"evaluate_after": 0, "watched_rows": 0, "precision": "fp32"}
    data = services.choose_data({services.datasets.add(alpaca_file, alpaca_file.name).id: 1.0})
    plan = services.plan(services.configure(None, values, allow_folder=True), data)
    return services.create_run(plan, data, "real")


def test_a_stop_while_general_skills_are_checked_at_the_end_loses_nothing(
    services, real_run, monkeypatch
):
    usual = job.assemble

    def assemble(*given):
        def stopped():
            raise StopRequested

        return replace(usual(*given), general_loss=stopped)

    monkeypatch.setattr(job, "assemble", assemble)
    last = job.train(real_run, services.settings, lambda event: None, lambda: False)
    assert (last.outcome, last.model_saved) == ("finished", True)
    assert (real_run.model_dir / "adapter_model.safetensors").is_file()


def test_a_model_that_an_earlier_process_saved_gives_way_to_a_newer_checkpoint(services, real_run):
    real_run.model_dir.mkdir(parents=True)
    there = []

    def emit(event):
        if isinstance(event, CheckpointEvent):
            there.append(real_run.model_dir.is_dir())
            raise RuntimeError("killed here")

    with pytest.raises(RuntimeError, match="killed here"):
        job.train(real_run, services.settings, emit, lambda: False)
    assert there == [False]
    assert not list(real_run.directory.glob("model*"))


@pytest.mark.parametrize(("reasons", "refused"), [({}, True), ({"max_length": "chosen"}, False)])
def test_what_cannot_work_with_the_model_is_told_before_anything_is_loaded(
    services, real_run, monkeypatch, reasons, refused
):
    class Loading(Exception):
        pass

    def load(model_dir):
        raise Loading

    monkeypatch.setattr(job, "load_tokenizer", load)
    config = real_run.config.model_copy(update={"max_length": 9999})
    run = replace(real_run, config=config, reasons=reasons)
    with pytest.raises(
        WorkbenchError if refused else Loading, match="at most 512" if refused else None
    ):
        job.train(run, services.settings, lambda event: None, lambda: False)
