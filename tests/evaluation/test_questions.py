"""A file of questions: kept with the run, given back as a table, never as a formula."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.evaluation.test_report import part_of, run_with
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.evaluation.answers import Answer, append_answers
from workbench.evaluation.questions import (
    answers_csv,
    answers_jsonl,
    newest_questions,
    questions_request,
    read_answer_table,
    table_words,
)
from workbench.evaluation.request import EvaluationRequest, write_request


@pytest.fixture
def made(services):
    rows = [{"instruction": f"Is {n} even?", "output": "yes"} for n in range(10)]
    return run_with(services, part_of(services, rows))


def request_for(run, services, tmp_path, text, name="mine.txt", **asked):
    path = tmp_path / "uploaded"
    path.write_text(text)
    values = {"base": True, "answer_tokens": 20} | asked
    return questions_request(run, services.settings, path, name, **values)


def said(run, request, name, answers):
    write_request(run, request)
    append_answers(request.answer_paths(run)[name], answers)


def cells(rows):
    return list(csv.reader(io.StringIO(answers_csv(rows).removeprefix("\ufeff"))))


def test_the_table_has_what_is_answered_and_says_what_is_missing(made, services, tmp_path):
    lines = (
        '{"question": "One?"}\n{"question": ""}\n{"question": "Three?"}\n{"question": "Four?"}\n'
    )
    request = request_for(made, services, tmp_path, lines, "mine.jsonl")
    assert read_answer_table(made, request).rows == []
    said(made, request, "base", [Answer(2, "four", 1), Answer(0, "one", 20, ended=False)])
    said(made, request, "tuned", [Answer(0, "1", 1)])
    table = read_answer_table(made, request)
    assert not table.is_complete
    assert [json.loads(line) for line in answers_jsonl(table.rows).splitlines()] == [
        {
            "row": 1, "question": "One?", "base": "one", "base_ended": False,
            "tuned": "1", "tuned_ended": True,
        },
        {
            "row": 4, "question": "Four?", "base": "four", "base_ended": True,
            "tuned": None, "tuned_ended": None,
        },
    ]  # fmt: skip
    assert cells(table.rows)[1:] == [
        ["1", "One?", "one", "no", "1", "yes"],
        ["4", "Four?", "four", "yes", "", ""],
    ]
    said(made, request, "base", [Answer(1, None)])
    said(made, request, "tuned", [Answer(1, None), Answer(2, "4", 1)])
    (request.directory(made) / "facts.json").write_text('{"answer_tokens": 20}')
    table = read_answer_table(made, request)
    assert table.is_complete
    assert table_words(request, table) == (
        "mine.jsonl: 2 of 3 questions answered; 1 row of the file left out (no question, or not readable); "
        "1 row longer than the model can read; 1 answer was cut at 20 tokens."
    )


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('=HYPERLINK("http://evil.example")', '\'=HYPERLINK("http://evil.example")'),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-1+2", "'-1+2"),
        ("- a list\n- of two", "'- a list\n- of two"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("-12.5", "-12.5"),
        ("+7", "+7"),
        ("a = b", "a = b"),
        ('say "hi",\nplease', 'say "hi",\nplease'),
    ],
)
def test_no_cell_becomes_a_formula(made, services, tmp_path, text, cell):
    request = request_for(made, services, tmp_path, json.dumps([text]), "a.json", tuned=False)
    said(made, request, "base", [Answer(0, text, 1)])
    rows = read_answer_table(made, request).rows
    assert cells(rows)[1] == ["1", cell, cell, "yes"]
    assert json.loads(answers_jsonl(rows))["base"] == text  # not a spreadsheet: as it was said


def test_a_table_without_rows_is_a_table(made):
    assert cells([]) == [["row", "question"]]
    assert answers_jsonl([]) == ""


def test_the_newest_questions_are_found_and_evaluations_are_none(made, services, tmp_path):
    write_request(made, EvaluationRequest())
    assert newest_questions(made) is None
    first = request_for(made, services, tmp_path, "One?\n")
    write_request(made, first)
    second = request_for(made, services, tmp_path, "Two?\n", answer_tokens=30)
    write_request(made, second)
    assert newest_questions(made) == second
    write_request(made, first)
    assert newest_questions(made) == first
    (tmp_path / "uploaded").unlink()  # the questions are the run's own
    assert read_answer_table(made, first).asked_rows == 1


def test_a_wrong_file_leaves_nothing_behind(made, services, tmp_path):
    with pytest.raises(WorkbenchError, match="is empty"):
        request_for(made, services, tmp_path, "")
    assert list((made.directory / "evaluations").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--out", "answers.xlsx"], "neither .csv nor .jsonl"),
        (["--out", "nowhere/answers.csv"], "Cannot write"),
        (["--base", "--checkpoint", "3"], "exclude each other"),
        (["--checkpoint", "3"], "no checkpoint of step 3"),
    ],
)
def test_the_command_refuses_before_it_asks(made, tmp_path, capsys, options, words):
    path = tmp_path / "mine.txt"
    path.write_text("One?\n")
    assert main(["answer", made.id, "--file", str(path), *options]) == 2
    assert words in capsys.readouterr().err
