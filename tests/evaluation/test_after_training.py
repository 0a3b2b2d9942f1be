"""What has ended is evaluated by itself, and gives way to the next run."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from filelock import FileLock

from tests.evaluation.test_report import part_of, run_with
from tests.made_runs import make_run
from tests.waiting import wait_until
from workbench.child_progress import LOCK, ProgressWriter, is_alive
from workbench.cli import main
from workbench.deleting import delete_run
from workbench.evaluation import after_training
from workbench.evaluation.after_training import due_runs, evaluate_what_is_due
from workbench.evaluation.card import headline
from workbench.evaluation.process import (
    PROGRESS,
    STOP,
    cancel,
    look,
    memory_bytes,
    request_stop,
    running,
    start,
    watch,
)
from workbench.evaluation.request import EvaluationRequest, read_request, write_request
from workbench.evaluation.result import find_evaluation, is_answered
from workbench.export import history
from workbench.training.job import train
from workbench.ui.train_evaluation import evaluation_words

SECONDS = 240  # whatever else runs goes first
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def plan(services, alpaca_file, tiny_model_dir):
    """Make a plan with some settings; it comes with its data."""

    def make(**changes):
        values = {"model": str(tiny_model_dir), "max_steps": 2, "max_length": 256} | changes
        config = services.configure(None, {"keep_general": False} | values, allow_folder=True)
        data = services.choose_data({services.datasets.add(alpaca_file, alpaca_file.name).id: 1.0})
        return services.plan(config, data), data

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
    wait_until(lambda: services.supervisor.snapshot(stopped).step > 1, SECONDS)
    services.supervisor.request_stop(stopped)
    wait_until(lambda: services.supervisor.active_run() == finished, SECONDS)
    # The next run is first; what has ended waits for it.
    assert due_runs(services.runs) == [stopped]
    assert running(services.runs.all()) == []
    wait_until(services.supervisor.is_idle, SECONDS)
    assert due_runs(services.runs) == [stopped, finished]
    wait_until(lambda: not due_runs(services.runs), SECONDS)
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
    command = f"workbench evaluate {run.id} --limit 4"  # it goes on with these, and asks no others
    assert f"in the background; `{command}` shows" in capsys.readouterr().out
    wait_until(lambda: not due_runs(services.runs), SECONDS)
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
    evaluate_what_is_due(services.settings)
    assert due_runs(services.runs) == [made]
    assert look(EvaluationRequest().directory(made)) is None  # it did not even begin
    idle(monkeypatch, [True] * 3 + [False] * 100)
    evaluate_what_is_due(services.settings)  # a run comes when it has just begun
    assert look(EvaluationRequest().directory(made)).state == "stopped"
    assert due_runs(services.runs) == [made]


def test_it_goes_on_when_what_came_has_left_meanwhile(services, made, monkeypatch):
    idle(monkeypatch, [True] * 3 + [False])
    evaluate_what_is_due(services.settings)
    assert look(EvaluationRequest().directory(made)).state == "failed"  # as it does by itself
    assert due_runs(services.runs) == []


def idle(monkeypatch, answers):
    """Say at the first looks whether no run trains or waits; none does later. Nobody waits long."""
    monkeypatch.setattr(after_training, "WAITING_SECONDS", 0.1)
    monkeypatch.setattr(after_training, "PAUSE_SECONDS", 0.1)
    said = iter(answers)
    monkeypatch.setattr("workbench.runs.supervisor.Supervisor.is_idle", lambda _: next(said, True))


@pytest.fixture
def other(services, made):
    """Another run, with the same data."""
    return run_with(services, made.data.parts[0], name="other")


@pytest.mark.parametrize("of_the_same_run", [True, False])
def test_it_does_not_begin_while_a_person_evaluates(
    services, made, other, monkeypatch, of_the_same_run
):
    asked = EvaluationRequest(limit=10)
    path = write_request(made if of_the_same_run else other, asked)
    idle(monkeypatch, [True] * 6 + [False] * 100)
    monkeypatch.setattr(after_training, "start", None)
    with FileLock(path.parent / LOCK):  # as the process holds it while it lives
        evaluate_what_is_due(services.settings)
    assert not (path.parent / STOP).exists()
    assert read_request(path) == asked
    assert len(list(services.runs.root_dir.glob("*/evaluations/*"))) == 1
    assert due_runs(services.runs) == [made]


def test_it_gives_way_to_what_else_loads_a_model(services, settings, made, other, monkeypatch):
    own = write_request(made, EvaluationRequest(limit=4)).parent
    workspace = after_training.Workspace(settings, services.runs, services.supervisor)
    with FileLock(own / LOCK):
        assert not workspace.is_used(beside=made)
        with FileLock(write_request(other, EvaluationRequest()).parent / LOCK):
            assert workspace.is_used(beside=made)
        ProgressWriter(EvaluationRequest().directory(other) / PROGRESS).end("finished")
        assert not workspace.is_used(beside=made)
        with services.supervisor.test_drive():
            assert workspace.is_used(beside=made)
        for kind, uses in (("gguf", True), ("card", False)):
            exports = [SimpleNamespace(request=SimpleNamespace(kind=kind))]
            monkeypatch.setattr(history, "active_exports", lambda _, found=exports: found)
            assert workspace.is_used(beside=made) == uses


def test_a_model_that_was_deleted_is_not_downloaded_for_it(services, made, monkeypatch):
    monkeypatch.setattr("workbench.models.store.ModelStore.is_here", lambda *_: False)
    evaluate_what_is_due(services.settings)
    assert due_runs(services.runs) == []
    assert not list(made.directory.glob("evaluations/*"))


def test_the_server_looks_now_and_then_for_what_is_due(services, monkeypatch):
    class EndOfTest(BaseException):
        """No error, which would be told, and the loop go on."""

    def advance(before_start):
        if len(turns) == 50:
            raise EndOfTest
        turns.append(1)

    looks, turns = [], []
    monkeypatch.setattr("workbench.services.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("workbench.services.DUE_SECONDS", 0.05)
    monkeypatch.setattr(services.supervisor, "advance", advance)
    monkeypatch.setattr(services.supervisor, "evaluate_due", lambda: looks.append(1))
    with pytest.raises(EndOfTest):
        services._keep_advancing()
    assert len(looks) > 1


def test_one_of_them_works_at_a_time(services, made):
    with services.supervisor.evaluating_lock():
        services.supervisor.evaluate_due()
        evaluate_what_is_due(services.settings)
    assert not list(made.directory.glob("evaluations/*"))
    assert not (services.settings.logs_dir / "evaluation.log").exists()


def test_who_deletes_a_run_ends_its_evaluations_first(services, made):
    directory = write_request(made, EvaluationRequest(limit=4)).parent
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(work_until_stopped, directory)
        wait_until(lambda: is_alive(directory), SECONDS)
        delete_run(services, made)
        assert stopped.result(1) is None
    assert not made.directory.exists()


def test_one_that_fails_is_not_tried_again_and_the_next_one_follows(services, made):
    gone = run_with(services, made.data.parts[0], name="without a model")
    gone.evaluation_due_path.touch()
    (gone.model_dir / "adapter_model.safetensors").unlink()
    gone.model_dir.rmdir()
    evaluate_what_is_due(services.settings)
    assert due_runs(services.runs) == []
    assert look(EvaluationRequest().directory(made)).state == "failed"


def test_training_finds_the_computer_free(services, made, plan):
    """Also of an evaluation that a person has started; the plan counts its memory as free."""
    start(made, EvaluationRequest(), services.settings)
    wait_until(lambda: memory_bytes([made]) > 50e6, SECONDS)
    assert running([made]) == [EvaluationRequest().directory(made)]
    services.supervisor.kill(services.start(*plan(), "next"))
    # A process that only just loads its model takes longer than training waits for it.
    wait_until(lambda: look(EvaluationRequest().directory(made)).state == "stopped", SECONDS)
    wait_until(lambda: (running([made]), memory_bytes([made])) == ([], 0), SECONDS)


def test_who_asks_for_more_rows_takes_over(services, made):
    few, all_rows = EvaluationRequest(tuned=False, limit=2), EvaluationRequest(tuned=False)
    directory = write_request(made, few).parent

    with ThreadPoolExecutor() as pool:
        pool.submit(work_until_stopped, directory)
        wait_until(lambda: is_alive(directory), SECONDS)
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        states = []
        watched = pool.submit(lambda: states.extend(p.state for p in watch(directory, ended)))
        wait_until(lambda: states, SECONDS)  # it knows which request it watches
        *_, last = watch(directory, start(made, all_rows, services.settings))
        watched.result()
        assert states[-1] == "stopped"  # neither lost nor the other's end
    assert last.state == "finished"
    assert is_answered(made, all_rows)


def work_until_stopped(directory):
    """Hold the lock as an evaluation does; say nothing at the end, as one whose memory ran out."""
    with FileLock(directory / LOCK):
        wait_until((directory / STOP).exists, SECONDS)


def test_a_stop_is_for_what_was_asked_before_it(services, made):
    request = EvaluationRequest(tuned=False, limit=2)
    directory = write_request(made, request).parent
    request_stop(directory)
    time.sleep(0.05)
    *_, last = watch(directory, start(made, request, services.settings))
    assert last.state == "finished"
    # What ended before is not taken for the end of what has only just been asked.
    write_request(made, EvaluationRequest(tuned=False))
    assert look(directory).state == "running"


def test_what_the_person_stops_is_not_taken_up_again(made):
    other = EvaluationRequest(data=made.data.parts[0])
    for request in (other, EvaluationRequest()):
        write_request(made, request)
    cancel(made, other)
    assert made.evaluation_due_path.exists()
    cancel(made, EvaluationRequest())
    assert not made.evaluation_due_path.exists()
