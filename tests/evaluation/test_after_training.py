"""What has ended is evaluated by itself, and gives way to the next run."""

from __future__ import annotations

import threading
import time

import pytest
from filelock import FileLock

from tests.evaluation.test_report import part_of, run_with
from tests.made_runs import make_run
from workbench.cli import main
from workbench.evaluation.after_training import due_runs
from workbench.evaluation.after_training import main as evaluate_what_is_due
from workbench.evaluation.card import headline
from workbench.evaluation.process import (
    LOCK,
    STOP,
    cancel,
    is_alive,
    look,
    memory_bytes,
    running,
    start,
    watch,
)
from workbench.evaluation.request import EvaluationRequest, write_request
from workbench.evaluation.result import find_evaluation, is_answered
from workbench.training.job import train
from workbench.ui.train_evaluation import evaluation_words

SECONDS = 60


def wait_for(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def plan(services, alpaca_file, tiny_model_dir):
    """Make a plan with some settings; it comes with its data."""

    def make(**changes):
        values = {"model": str(tiny_model_dir), "max_steps": 2, "max_length": 256} | changes
        config = services.configure(None, {"keep_general": False} | values, allow_folder=True)
        data = services.choose_data({services.datasets.add(alpaca_file, alpaca_file.name).id: 1.0})
        return services.plan(config, data, allow_folder=True), data

    return make


@pytest.mark.parametrize(
    ("changes", "due"),
    [({}, True), ({"evaluate_after": 0}, False), ({"validation_share": 0}, False)],
)
def test_a_run_is_due_once_it_has_a_model_and_rows_to_ask(services, plan, changes, due):
    run = services.create_run(*plan(**changes), "one")
    train(run, services.settings, lambda event: None, lambda: False)
    assert run.evaluation_due_path.exists() == due


def test_runs_are_evaluated_when_none_waits_any_more_a_stopped_one_too(services, plan):
    """The real processes, from Start to the figures."""
    stopped = services.start(*plan(max_steps=100_000, evaluate_after=4), "stopped")
    finished = services.start(*plan(), "finished")
    wait_for(lambda: services.supervisor.snapshot(stopped).step > 1)
    services.supervisor.request_stop(stopped)
    wait_for(lambda: services.supervisor.active_run() == finished)
    # The next run is first; what has ended waits for it.
    assert due_runs(services.runs) == [stopped]
    assert running(services.runs.all()) == []
    wait_for(services.supervisor.is_idle)
    assert due_runs(services.runs) == [stopped, finished]
    wait_for(lambda: not due_runs(services.runs))
    assert is_answered(stopped, EvaluationRequest(limit=4))
    assert not is_answered(stopped, EvaluationRequest())
    assert is_answered(finished, EvaluationRequest())
    found = headline(find_evaluation(finished, EvaluationRequest()))
    assert found.startswith("Likeness to the expected answers (chrF, 0 to 100) on 10 rows: ")
    snapshot = services.supervisor.summary(finished)
    assert evaluation_words(finished, snapshot, is_idle=True) == found


def test_the_command_does_not_wait_for_it(services, alpaca_file, tiny_model_dir, capsys):
    values = ["max_steps=2", "max_length=256", "keep_general=false", "evaluate_after=4"]
    arguments = ["--data", str(alpaca_file), "--model", str(tiny_model_dir), "--set", *values]
    assert main(["train", *arguments]) == 0
    run = services.runs.get("latest")
    assert f"in the background; `workbench evaluate {run.id}` shows" in capsys.readouterr().out
    wait_for(lambda: not due_runs(services.runs))
    assert is_answered(run, EvaluationRequest(limit=4))


@pytest.fixture
def made(services, tiny_model_dir):
    """A run that is due; what it saved are no weights, so its evaluation fails after the base model's."""
    rows = [{"instruction": f"Is {n} even?", "output": "no" if n % 2 else "yes"} for n in range(40)]
    values = {"model": str(tiny_model_dir), "evaluate_after": 4}
    run = run_with(services, part_of(services, rows), values=values)
    run.evaluation_due_path.touch()
    return run


def test_it_leaves_when_a_run_waits_and_comes_back(services, made, monkeypatch):
    waiting = make_run(services.runs, name="next", outcome=None)
    waiting.waiting_path.write_text('{"place": 1}')
    evaluate_what_is_due()
    assert due_runs(services.runs) == [made]
    assert look(EvaluationRequest().directory(made)) is None  # it did not even begin
    idle = iter([True, True, False, False])
    monkeypatch.setattr(
        "workbench.runs.supervisor.Supervisor.is_idle", lambda self: next(idle, False)
    )
    evaluate_what_is_due()  # a run comes when it has just begun
    assert look(EvaluationRequest().directory(made)).state == "stopped"
    assert due_runs(services.runs) == [made]
    monkeypatch.undo()


def test_one_that_fails_is_not_tried_again_and_the_next_one_follows(services, made):
    gone = run_with(services, made.data.parts[0], name="without a model")
    gone.evaluation_due_path.touch()
    (gone.model_dir / "adapter_model.safetensors").unlink()
    gone.model_dir.rmdir()
    evaluate_what_is_due()
    assert due_runs(services.runs) == []
    assert look(EvaluationRequest().directory(made)).state == "failed"


def test_training_finds_the_computer_free(services, made, plan):
    """Also of an evaluation that a person has started; the plan counts its memory as free."""
    start(made, EvaluationRequest(), services.settings)
    wait_for(lambda: memory_bytes([made]) > 50e6)
    assert running([made]) == [EvaluationRequest().directory(made)]
    services.supervisor.kill(services.start(*plan(), "next"))
    assert look(EvaluationRequest().directory(made)).state == "stopped"
    assert (running([made]), memory_bytes([made])) == ([], 0)


def test_who_asks_for_more_rows_takes_over(services, made):
    few, all_rows = EvaluationRequest(tuned=False, limit=2), EvaluationRequest(tuned=False)
    directory = write_request(made, few).parent

    def work_until_stopped():
        with FileLock(directory / LOCK):
            wait_for((directory / STOP).exists)

    first = threading.Thread(target=work_until_stopped)
    first.start()
    wait_for(lambda: is_alive(directory))
    *_, last = watch(directory, start(made, all_rows, services.settings))
    first.join()
    assert last.state == "finished"
    assert is_answered(made, all_rows)


def test_what_the_person_stops_is_not_taken_up_again(made):
    other = EvaluationRequest(data=made.data.parts[0])
    for request in (other, EvaluationRequest()):
        write_request(made, request)
    cancel(made, other)
    assert made.evaluation_due_path.exists()
    cancel(made, EvaluationRequest())
    assert not made.evaluation_due_path.exists()
