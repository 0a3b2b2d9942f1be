"""The panel that asks a file of questions, without a browser or a model."""

from __future__ import annotations

import shutil

import gradio as gr
import pytest
from filelock import FileLock

from tests.evaluation.test_report import part_of, run_with
from workbench.child_progress import LOCK, ProgressWriter
from workbench.evaluation.answers import Answer, append_answers
from workbench.evaluation.process import PROGRESS, STOP
from workbench.evaluation.questions import answers_csv, answers_jsonl, questions_request
from workbench.evaluation.request import write_request
from workbench.ui.playground_batch import (
    NOTHING_DRAWN,
    TOO_LONG,
    answers_file,
    build_batch_panel,
)


@pytest.fixture
def panel(services):
    with gr.Blocks() as page:
        build_batch_panel(services, page, gr.Dropdown())
    return {function.name: function.fn for function in page.fns.values()}


@pytest.fixture
def run(services):
    rows = [{"instruction": f"Is {n} even?", "output": "yes"} for n in range(10)]
    return run_with(services, part_of(services, rows))


@pytest.fixture
def request_of_two(run, services, tmp_path):
    path = tmp_path / "uploaded"
    path.write_text("<b>One?</b>\nTwo?\n")
    request = questions_request(run, services.settings, path, "mine.txt", answer_tokens=20)
    write_request(run, request)
    return request


def say(run, request, *, tuned=(), base=()):
    paths = request.answer_paths(run)
    append_answers(paths["tuned"], tuned)
    append_answers(paths["base"], base)


def test_nothing_is_shown_of_a_run_that_was_asked_nothing_or_is_gone(panel, run):
    for run_id in (None, run.id, "20260101-000000-gone"):
        status, answered, _, drawn, timer, stop = panel["show"](run_id, "something")
        assert not status.visible
        assert not answered.visible
        assert drawn == NOTHING_DRAWN
        assert not timer.active
        assert not stop.interactive


def test_answers_appear_while_they_come(panel, run, request_of_two):
    directory = request_of_two.directory(run)
    ProgressWriter(directory / PROGRESS).enter("The tuned model answers", 2)
    say(run, request_of_two, base=[Answer(1, "b", 1)])
    with FileLock(directory / LOCK):  # as the process holds it while it lives
        status, answered, table, drawn, timer, stop = panel["show"](run.id, NOTHING_DRAWN)
        assert status.value == "The tuned model answers: 0 of 2…"
        assert answered.visible
        assert table.value["headers"] == ["Row", "Question", "Before training", "Tuned model"]
        assert table.value["data"] == [["2", "Two?", "b", ""]]
        assert timer.active
        assert stop.interactive
        assert panel["show"](run.id, drawn)[2] == gr.skip()  # it is drawn already
        say(run, request_of_two, tuned=[Answer(1, None)])
        assert panel["show"](run.id, drawn)[2].value["data"] == [["2", "Two?", "b", TOO_LONG]]
        with pytest.raises(gr.Error, match="answers a file just now"):
            next(panel["begin"](run.id, "mine.txt", "tuned", False, 20))


def test_the_end_is_told_with_what_is_missing(panel, run, request_of_two):
    say(run, request_of_two, tuned=[Answer(0, "1", 1)], base=[Answer(0, "b", 1)])
    ProgressWriter(request_of_two.directory(run) / PROGRESS).end("stopped")
    status, _, table, _, timer, _ = panel["show"](run.id, NOTHING_DRAWN)
    assert status.value.startswith("Stopped. mine.txt: 1 of 2 questions answered.")
    assert table.value["data"] == [["1", "<b>One?</b>", "b", "1"]]
    assert not timer.active
    ProgressWriter(request_of_two.directory(run) / PROGRESS).end("failed", "No memory.", "Close.")
    assert panel["show"](run.id, NOTHING_DRAWN)[0].value.startswith("No memory. Close. mine.txt")


def test_a_model_that_is_gone_is_a_sentence(panel, run, request_of_two):
    (run.model_dir / "adapter_model.safetensors").unlink()
    run.model_dir.rmdir()
    status, answered, *_ = panel["show"](run.id, NOTHING_DRAWN)
    assert "has no model to evaluate" in status.value
    assert not answered.visible


def test_stop_and_the_files_are_those_of_the_newest_questions(panel, services, run, request_of_two):
    say(run, request_of_two, tuned=[Answer(0, "=1+1", 1)])
    panel["end"](run.id)
    assert (request_of_two.directory(run) / STOP).exists()
    name, text = answers_file(services, answers_csv, ".csv", run.id)
    assert name == f"answers-{run.id}.csv"
    lines = text.removeprefix("\ufeff").splitlines()
    assert lines[1] == "1,<b>One?</b>,,,'=1+1,yes"
    assert '"tuned": "=1+1"' in answers_file(services, answers_jsonl, ".jsonl", run.id)[1]


@pytest.mark.parametrize(
    ("has_model", "path", "words"),
    [(False, "x", "no tuned model yet"), (True, None, "no file yet")],
)
def test_what_is_missing_is_said(panel, run, has_model, path, words):
    if not has_model:
        shutil.rmtree(run.model_dir)
    with pytest.raises(gr.Error, match=words):
        next(panel["begin"](None, path, "tuned", False, 20))
