"""Files of questions: what is asked in them, and the sentence for those that ask nothing."""

from __future__ import annotations

import json

import pytest

from tests.data.sample_files import as_table, as_workbook
from workbench.data.adding import read_questions_in_child
from workbench.data.conversations import read_stored_rows
from workbench.data.questions import write_questions
from workbench.errors import WorkbenchError

LIMIT = 1_000_000


def read(tmp_path, name, content, **options):
    path, target = tmp_path / "uploaded", tmp_path / "questions.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = write_questions(path, name, target, LIMIT, **options)
    rows = read_stored_rows(target)
    assert found.rows == len(rows)
    return found, rows


def asked(rows):
    return [row.messages[-1]["content"] for row in rows]


ALPACA = [
    {"instruction": "Translate", "input": "Good morning"},
    {"instruction": "Who are you?", "output": "", "system": "Be brief."},
    {"instruction": "And you?", "output": "Me.", "history": [["Hi", "Hello!"]]},
]
TALKS = [
    {"messages": [{"role": "user", "content": "One?"}]},
    {"messages": [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "1"}]},
]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", json.dumps(ALPACA), ["Translate\nGood morning", "Who are you?", "And you?"]),
        ("a.jsonl", '{"prompt": "One?"}\n{"prompt": "Two?"}\n', ["One?", "Two?"]),
        ("a.json", '["One?", "Two, please?"]', ["One?", "Two, please?"]),
        ("a.json", json.dumps(TALKS), ["One?", "One?"]),
        ("a.csv", "id,question\n1,One?\n2,Two?\n", ["One?", "Two?"]),
        ("a.csv", 'question\n"One, ""two""?"\nThree, four?\n', ['One, "two"?', "Three, four?"]),
        ("a.csv", '"One, two?"\nThree?\n', ["One, two?", "Three?"]),
        ("a", "One?\n\nTwo, please?\n", ["One?", "Two, please?"]),
        ("a.txt", 'One, two?\r\n\r\n  "Three", she said.\r\n', ["One, two?", '"Three", she said.']),
        ("a.txt", "[urgent] One?\n{two}\n", ["[urgent] One?", "{two}"]),
        ("A.TXT", "\ufeffGröße?\n", ["Größe?"]),
        ("a.xlsx", as_workbook([{"prompt": "One?", "note": "x"}]), ["One?"]),
        ("a.tsv", as_table([{"text": "One?", "label": "x"}], "\t"), ["One?"]),
    ],
)
def test_each_kind_of_file_gives_its_questions(tmp_path, name, content, expected):
    found, rows = read(tmp_path, name, content)
    assert asked(rows) == expected
    assert found.left_out_rows == 0


def test_what_was_said_before_is_kept_and_answers_are_not(tmp_path):
    _, rows = read(tmp_path, "a.json", json.dumps(ALPACA))
    assert [message["role"] for message in rows[1].messages] == ["system", "user"]
    assert [message["content"] for message in rows[2].messages] == ["Hi", "Hello!", "And you?"]


def test_rows_that_ask_nothing_are_counted_and_the_others_keep_their_numbers(tmp_path):
    lines = '{"question": "One?"}\n{"question": ""}\n{"question": \n{"question": "Four?"}\n'
    found, rows = read(tmp_path, "a.jsonl", lines)
    assert (found.rows, found.left_out_rows) == (2, 2)
    assert [(row.row, row.line) for row in rows] == [(1, 1), (4, 4)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", " \n\n", "a.txt is empty"),
        ("a.json", "[]", "There is no question in a.json"),
        ("a.csv", "question\n", "There is no question in a.csv. There is no row in it."),
        ("a.csv", "id,frage\n1,Was?\n", "No column has a name that says it is the question."),
        ("a.csv", "prompt,question\n1,2\n", "Both `prompt` and `question` could be"),
        ("a.json", "[1, 2]", "Row 1 (line 1): a number where a question was expected."),
        ("a.json", '[{"messages": [{"role": "system", "content": "x"}]}]', "nobody asks"),
        ("a.txt", b"\x7fELF\x02\x01\x01\x00\x80\x9d\xff", "this is not UTF-8 text"),
        ("a.txt", b"%PDF-1.7", "a PDF document"),
        ("a.txt", "x" * (LIMIT + 1), "1 MB; the limit is 1 MB"),
    ],
)
def test_a_file_without_questions_gets_a_sentence(tmp_path, name, content, words):
    with pytest.raises(WorkbenchError) as caught:
        read(tmp_path, name, content)
    assert words in caught.value.message


def test_there_is_an_end_to_how_many_and_how_long(tmp_path):
    with pytest.raises(WorkbenchError, match="more than 2 questions"):
        read(tmp_path, "a.txt", "1\n2\n3\n", most=2)
    path = tmp_path / "long.txt"
    path.write_text("short?\n" + "x" * 1_000_001)
    found = write_questions(path, "long.txt", tmp_path / "questions.jsonl", 10_000_000)
    assert (found.rows, found.left_out_rows) == (1, 1)


def test_the_child_process_reads_the_same_and_tells_what_is_wrong(settings, tmp_path):
    path = tmp_path / "uploaded"
    path.write_text("One?\nTwo?\n")
    target = tmp_path / "questions.jsonl"
    found = read_questions_in_child(settings, path, "a.txt", target)
    assert found == write_questions(path, "a.txt", tmp_path / "again.jsonl", LIMIT)
    path.write_text("")
    with pytest.raises(WorkbenchError, match="is empty"):
        read_questions_in_child(settings, path, "a.txt", target)
    path.write_text("One?")
    with pytest.raises(WorkbenchError, match="Cannot keep the questions"):
        read_questions_in_child(settings, path, "a.txt", tmp_path / "nowhere" / "questions.jsonl")
