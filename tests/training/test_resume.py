"""A run that goes on from a checkpoint is the run that never stopped, bit for bit on a CPU in fp32."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import set_seed

from workbench.config import TrainingConfig, build_config
from workbench.errors import StopRequested
from workbench.models.rendering import load_tokenizer
from workbench.runs.checkpoints import (
    MARK,
    complete_checkpoints,
    mark_complete,
    newest_checkpoint,
)
from workbench.runs.columns import Columns
from workbench.runs.events import (
    EvaluationEvent,
    GeneralEvent,
    ResumeEvent,
    SampleEvent,
    StartEvent,
    StepEvent,
    WarningEvent,
    append_event,
)
from workbench.runs.reading import read_loss
from workbench.runs.record import Record, read_record
from workbench.services import Services
from workbench.settings import Settings
from workbench.training.assembly import NOT_PACKED, _parent_checkpoint, assemble
from workbench.training.data import prepare_data
from workbench.training.failures import Damaged, Diverged
from workbench.training.head import Cost
from workbench.training.job import _learn, _take_best
from workbench.training.loss import AnswerLoss
from workbench.training.reporter import Reporter
from workbench.ui.charts import ChartView, run_figure

QUICK = {
    "max_steps": 6,
    "save_steps": 3,
    "eval_steps": 2,
    "batch_size": 4,
    "lora_rank": 4,
    "max_length": 256,
    "validation_share": 0.1,
    "checkpoints_kept": 9,
    "watched_rows": 0,
    "learning_rate": 5e-3,
}
EXTRAS = {  # what draws random numbers, or keeps notes of its own
    "lora": {"lora_dropout": 0.1, "watched_questions": "Who are you?"},
    "full": {"neftune_alpha": 5.0, "watched_rows": 1},
    "freeze": {"trained_layers": 1, "layer_lr_decay": 0.5},
    "galore": {"projection_rank": 8},
    "apollo": {"projection_rank": 8},
}
pytestmark = pytest.mark.timeout(600)
METHODS = TrainingConfig.model_json_schema()["properties"]["method"]["enum"]


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    return Services.for_workspace(Settings(home_dir=tmp_path_factory.mktemp("resume") / "home"))


def make_run(services, base_dir, method, **changes):
    values = QUICK | {"method": method, "model": str(base_dir)} | EXTRAS.get(method, {}) | changes
    data = services.choose_data({"sample-identity": 1.0})
    plan = services.plan(build_config(values), data)
    return services.create_run(plan, data, method)


def train(run, base_dir, events=None, stop=lambda: False):
    """Train it as the child process does; return its events and its trainer."""
    events = [] if events is None else events
    set_seed(run.config.seed)
    tokenizer = load_tokenizer(base_dir)
    data = prepare_data(run, tokenizer, base_dir, events.append)
    reporter = Reporter(events.append, stop)
    assembly = assemble(run, data, tokenizer, base_dir, reporter, events.append)
    _learn(assembly, events.append, lambda: False)
    return events, assembly


def of_kind(events, kind, after):
    return [event for event in events if isinstance(event, kind) and event.step > after]


def curve(events, after=0):
    return [
        (event.step, event.loss, event.grad_norm, event.learning_rate, event.token_accuracy)
        for event in of_kind(events, StepEvent, after)
    ]


def weights(model):
    return {name: w.detach().clone() for name, w in model.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("method", METHODS)
def test_resumed_is_the_same_as_never_stopped(services, tiny_model_dir, method):
    whole_run = make_run(services, tiny_model_dir, method)
    whole_events, whole = train(whole_run, tiny_model_dir)
    cut_run = make_run(services, tiny_model_dir, method)
    shutil.copytree(
        whole_run.checkpoints_dir / "checkpoint-3", cut_run.checkpoints_dir / "checkpoint-3"
    )
    cut_events, cut = train(cut_run, tiny_model_dir)
    assert curve(cut_events) == curve(whole_events, after=3)
    assert [event.loss for event in of_kind(cut_events, EvaluationEvent, 3)] == [
        event.loss for event in of_kind(whole_events, EvaluationEvent, 3)
    ]
    assert [event.answer for event in of_kind(cut_events, SampleEvent, 3)] == [
        event.answer for event in of_kind(whole_events, SampleEvent, 3)
    ]
    expected, found = weights(whole.model), weights(cut.model)
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), name


@pytest.mark.parametrize("was_checked", [True, False])
def test_a_run_that_lacks_only_its_end_does_no_step_more(services, tiny_model_dir, was_checked):
    """Its steps are no whole epochs, where Trainer would go on to the next one."""
    run = make_run(services, tiny_model_dir, "lora")
    events, whole = train(run, tiny_model_dir)
    if not was_checked:
        state_path = newest_checkpoint(run.checkpoints_dir).directory / "trainer_state.json"
        state = json.loads(state_path.read_text())
        state["log_history"] = [
            one for one in state["log_history"] if "eval_loss" not in one or one["step"] < 6
        ]
        state_path.write_text(json.dumps(state))
        (state_path.parent / MARK).unlink()
        mark_complete(state_path.parent)
    kept = complete_checkpoints(run.checkpoints_dir)
    again, resumed = train(run, tiny_model_dir)
    assert [event.step for event in again if isinstance(event, ResumeEvent)] == [6]
    assert of_kind(again, StepEvent, 0) == []
    checks = [event.loss for event in of_kind(events, EvaluationEvent, 5)]
    assert [event.loss for event in of_kind(again, EvaluationEvent, 0)] == (
        [] if was_checked else checks
    )
    assert resumed.trainer.state.global_step == 6
    assert complete_checkpoints(run.checkpoints_dir) == kept
    expected, found = weights(whole.model), weights(resumed.model)
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), name


def test_where_rows_cannot_follow_each_other_they_are_filled_up(
    services, tiny_model_dir, monkeypatch
):
    def made():
        return make_run(services, tiny_model_dir, "full", max_steps=2, neftune_alpha=0.0)

    packed, _ = train(made(), tiny_model_dir)
    monkeypatch.setattr("workbench.training.assembly.runs_packed", lambda *given: False)
    padded, assembly = train(made(), tiny_model_dir)
    assert assembly.trainer._padded
    assert assembly.model.config._attn_implementation == "sdpa"
    assert NOT_PACKED in [event.message for event in padded if isinstance(event, WarningEvent)]
    losses = [[loss for _, loss, *_ in curve(events)] for events in (packed, padded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_run_goes_on_in_the_number_format_it_began_in(services, tiny_model_dir, monkeypatch):
    run = make_run(services, tiny_model_dir, "lora", max_steps=3)
    train(run, tiny_model_dir)
    start = StartEvent(
        total_steps=3, train_rows=8, validation_rows=0, left_out_rows=0, supervised_tokens=8,
        parameters=1, trained_parameters=1, device="cpu", precision="bf16", threads=1,
    )  # fmt: skip
    append_event(run.events_path, start)
    _, assembly = train(run, tiny_model_dir)
    assert run.config.precision == "auto"
    assert assembly.compute.precision == "bf16"  # fp32 would be quicker in the tests


def test_a_run_that_begins_anew_says_so_before_anything_else(services, tiny_model_dir):
    run = make_run(services, tiny_model_dir, "lora", max_steps=2)
    first, _ = train(run, tiny_model_dir)
    assert not any(isinstance(event, ResumeEvent) for event in first)
    shutil.rmtree(run.checkpoints_dir)
    start = StartEvent(
        total_steps=2, train_rows=8, validation_rows=0, left_out_rows=0, supervised_tokens=8,
        parameters=1, trained_parameters=1, device="cpu", precision="fp32", threads=1,
    )  # fmt: skip
    append_event(run.events_path, start)  # by a process that was killed
    again, _ = train(run, tiny_model_dir)
    (resumed,) = [event for event in again if isinstance(event, ResumeEvent)]
    (general,) = [event for event in again if isinstance(event, GeneralEvent)]
    assert resumed.step == 0
    assert again.index(resumed) < again.index(general)
    assert Record([start, *first, *again]).steps == [
        event for event in again if isinstance(event, StepEvent)
    ]


def test_what_goes_on_from_a_run_begins_with_its_model(services, tiny_model_dir):
    changes = {"learning_rate": 0.1, "max_steps": 6, "checkpoints_kept": 1}
    run = make_run(services, tiny_model_dir, "full", **changes, final_model="best")
    events, _ = train(run, tiny_model_dir)
    losses = {e.step: e.loss for e in of_kind(events, EvaluationEvent, 0)}
    best = min(losses, key=losses.get)
    assert best < 6
    child = SimpleNamespace(directory=run.directory.parent / "child", parent=run.id)
    assert _parent_checkpoint(child, events.append).step == best
    config_path = run.directory / "config.yaml"
    config_path.write_text(
        config_path.read_text().replace("final_model: best", "final_model: last")
    )
    assert _parent_checkpoint(child, events.append).step == 6


def test_the_best_checkpoint_is_kept_besides_the_newest(services, tiny_model_dir):
    run = make_run(
        services, tiny_model_dir, "full", learning_rate=0.1, checkpoints_kept=1, max_steps=6
    )
    events, assembly = train(run, tiny_model_dir)
    losses = {e.step: e.loss for e in of_kind(events, EvaluationEvent, 0)}
    best = min(losses, key=losses.get)
    assert best < 6, "the rate is so high that the model gets worse"
    assert [c.step for c in complete_checkpoints(run.checkpoints_dir)] == [best, 6]
    last = weights(assembly.model)
    said = []
    # The model at the end is the last one by default.
    assert _take_best(assembly, run, said.append) is None
    wanted = replace(run, config=run.config.model_copy(update={"final_model": "best"}))
    assert _take_best(assembly, wanted, said.append) == best
    assert not all(torch.equal(w, last[name]) for name, w in weights(assembly.model).items())
    assert not said


def test_a_damaged_best_checkpoint_is_not_taken(services, tiny_model_dir):
    run = make_run(services, tiny_model_dir, "full", learning_rate=0.1, max_steps=6)
    run = replace(run, config=run.config.model_copy(update={"final_model": "best"}))
    events, assembly = train(run, tiny_model_dir)
    losses = {e.step: e.loss for e in of_kind(events, EvaluationEvent, 0)}
    best = min(losses, key=losses.get)
    path = run.checkpoints_dir / f"checkpoint-{best}" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    last, said = weights(assembly.model), []
    assert _take_best(assembly, run, said.append) is None
    assert f"step {best}, is damaged" in said[0].message
    assert all(torch.equal(w, last[name]) for name, w in weights(assembly.model).items())


def test_it_stops_early_when_the_validation_loss_no_longer_falls(services, tiny_model_dir):
    run = make_run(
        services, tiny_model_dir, "full", learning_rate=0.1, max_steps=40, early_stopping=2
    )
    events, assembly = train(run, tiny_model_dir)
    losses = [e.loss for e in of_kind(events, EvaluationEvent, 0)]
    assert assembly.trainer.state.global_step < 40
    assert min(losses) not in losses[-2:]
    again, resumed = train(
        run, tiny_model_dir
    )  # as if it had been killed before it saved its model
    assert of_kind(again, StepEvent, 0) == []
    assert resumed.trainer.state.global_step == assembly.trainer.state.global_step


def test_the_best_may_be_the_most_accurate(services, tiny_model_dir):
    values = {"learning_rate": 0.1, "max_steps": 40, "early_stopping": 2, "best_by": "accuracy"}
    run = make_run(services, tiny_model_dir, "full", **values)
    events, assembly = train(run, tiny_model_dir)
    right = {e.step: e.token_accuracy for e in of_kind(events, EvaluationEvent, 0)}
    assert assembly.trainer.state.global_step < 40
    assert assembly.trainer.state.best_global_step == max(right, key=right.get)
    assert max(right.values()) not in list(right.values())[-2:]


def test_stop_and_keep_leaves_a_checkpoint_to_go_on_from(services, tiny_model_dir):
    run = make_run(services, tiny_model_dir, "lora", save_steps=100, eval_steps=100)
    events = []
    _, assembly = train(
        run, tiny_model_dir, events, stop=lambda: len(of_kind(events, StepEvent, 0)) >= 2
    )
    step = assembly.trainer.state.global_step
    assert 2 <= step < 6
    assert newest_checkpoint(run.checkpoints_dir).step == step


@pytest.mark.parametrize("steps_told", [1, 2])  # before the check at step 2, in the middle of it
def test_a_check_that_a_stop_prevented_is_made_up_for(services, tiny_model_dir, steps_told):
    values = {"watched_rows": 1, "learning_rate": 1e-3}
    whole_events, whole = train(
        make_run(services, tiny_model_dir, "lora", **values), tiny_model_dir
    )
    run = make_run(services, tiny_model_dir, "lora", **values)
    events = []

    def stop():
        return len(of_kind(events, StepEvent, 0)) >= steps_told

    train(run, tiny_model_dir, events, stop)
    assert newest_checkpoint(run.checkpoints_dir).step == 2
    assert of_kind(events, EvaluationEvent, 0) == []
    _, resumed = train(run, tiny_model_dir, events)
    record, expected = Record(events), Record(whole_events)
    assert record.losses() == expected.losses()
    assert [(s.step, s.answer) for s in record.samples] == [
        (s.step, s.answer) for s in expected.samples
    ]
    assert resumed.trainer.state.best_global_step == whole.trainer.state.best_global_step
    assert complete_checkpoints(run.checkpoints_dir)[0].step == 2


def test_a_stop_while_a_check_is_made_up_for_keeps_the_checkpoint(services, tiny_model_dir):
    run = make_run(services, tiny_model_dir, "lora")
    events = []
    stop = lambda: len(of_kind(events, StepEvent, 0)) >= 2  # noqa: E731
    train(run, tiny_model_dir, events, stop)
    with pytest.raises(StopRequested):
        train(run, tiny_model_dir, events, stop)
    assert newest_checkpoint(run.checkpoints_dir).step == 2
    train(run, tiny_model_dir, events)
    assert [e.step for e in Record(events).evaluations] == [0, 2, 4, 6]


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(services, tiny_model_dir, monkeypatch):
    run = make_run(services, tiny_model_dir, "lora", max_steps=6, save_steps=2)
    save = torch.save

    def save_while_there_is_room(value, path, *args, **kwargs):
        if "checkpoint-4" in str(path):
            raise OSError(28, "No space left on device")
        return save(value, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", save_while_there_is_room)
    events, assembly = train(run, tiny_model_dir)
    assert assembly.trainer.state.global_step == 6
    warnings = [e.message for e in events if isinstance(e, WarningEvent)]
    (warning,) = (message for message in warnings if "disk" in message)
    assert "checkpoint of step 4 could not be saved. The one of step 2 is still there" in warning
    assert [c.step for c in complete_checkpoints(run.checkpoints_dir)] == [2, 6]
    assert not (run.checkpoints_dir / "checkpoint-4").exists()


def test_the_step_that_ends_a_run_is_told_without_a_loss(services, tiny_model_dir, monkeypatch):
    run = make_run(services, tiny_model_dir, "full", save_steps=2)
    events, cost = [], AnswerLoss.cost

    def cost_that_breaks(self, batch, smoothing=0.0):
        found = cost(self, batch, smoothing)
        is_broken = len(of_kind(events, StepEvent, 0)) >= 3
        return Cost(found.loss * float("nan"), found.correct) if is_broken else found

    monkeypatch.setattr(AnswerLoss, "cost", cost_that_breaks)
    with pytest.raises(Diverged, match="not a number at step 4"):
        train(run, tiny_model_dir, events)
    for event in events:
        append_event(run.events_path, event)
    record = read_record(run.events_path)
    assert [step.step for step in record.steps] == [1, 2, 3, 4]
    assert [step.loss is None for step in record.steps] == [False, False, False, True]
    assert record.steps[-1].token_accuracy is None
    epochs = [step.epoch for step in record.steps]
    assert epochs == pytest.approx([epochs[0] * step for step in (1, 2, 3, 4)], abs=1e-3)
    assert "Since step 4 the loss is not a number" in read_loss(record.steps, [], 6).sentence
    (mark,) = (
        trace
        for trace in run_figure(Columns.of(record.steps), [], ChartView()).data
        if trace.name == "Loss was not a number"
    )
    assert list(mark.x) == [4]
    record.extend([ResumeEvent(step=2)])
    assert [step.step for step in record.steps] == [1, 2]


def test_a_half_written_checkpoint_is_not_read(services, tiny_model_dir):
    run = make_run(services, tiny_model_dir, "lora")
    train(run, tiny_model_dir)
    (run.checkpoints_dir / "checkpoint-6" / MARK).unlink()
    events, _ = train(run, tiny_model_dir)
    (resumed,) = (e for e in events if isinstance(e, ResumeEvent))
    assert resumed.step == 4


def test_a_damaged_checkpoint_is_passed_over_and_told(services, tiny_model_dir):
    run = make_run(services, tiny_model_dir, "lora", eval_steps=100)
    train(run, tiny_model_dir)
    assert [c.step for c in complete_checkpoints(run.checkpoints_dir)] == [3, 6]
    damage(run, 6)
    events, _ = train(run, tiny_model_dir)
    assert [e.step for e in events if isinstance(e, ResumeEvent)] == [3]
    warnings = [e.message for e in events if isinstance(e, WarningEvent)]
    (warning,) = (message for message in warnings if "damaged" in message)
    assert "The checkpoint of step 6 is damaged" in warning
    assert "goes on from that of step 3" in warning
    assert [e.step for e in of_kind(events, StepEvent, 0)] == [4, 5, 6]
    events, _ = train(run, tiny_model_dir)  # the one of step 6 was written anew
    assert [e.step for e in events if isinstance(e, ResumeEvent)] == [6]


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew_by_itself(
    services, tiny_model_dir
):
    run = make_run(services, tiny_model_dir, "lora", eval_steps=100)
    train(run, tiny_model_dir)
    damage(run, 3)
    damage(run, 6)
    with pytest.raises(Damaged, match="steps 6 and 3 are damaged"):
        train(run, tiny_model_dir)
    assert [c.step for c in complete_checkpoints(run.checkpoints_dir)] == [3, 6]


def damage(run, step):
    """Change one byte of a checkpoint's optimizer, in place and without its size."""
    path = run.checkpoints_dir / f"checkpoint-{step}" / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("method", ["lora", "qlora", "full", "pissa", "prompt"])
def test_a_continued_run_begins_where_its_parent_ended(services, tiny_model_dir, method):
    parent = make_run(services, tiny_model_dir, method)
    _, before = train(parent, tiny_model_dir)
    run = replace(make_run(services, tiny_model_dir, method), parent=parent.id, continues=True)
    events = []
    tokenizer = load_tokenizer(tiny_model_dir)
    data = prepare_data(run, tokenizer, tiny_model_dir, events.append)
    reporter = Reporter(events.append, lambda: False)
    after = assemble(run, data, tokenizer, tiny_model_dir, reporter, events.append)
    assert after.checkpoint is None
    expected = weights(before.model)
    assert all(torch.equal(w, expected[name]) for name, w in weights(after.model).items())
