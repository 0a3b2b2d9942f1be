import json

import pytest

from workbench.data.readers import read_rows
from workbench.errors import WorkbenchError


def write(tmp_path, content):
    path = tmp_path / "rows.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_rows_know_their_line(tmp_path):
    path = write(tmp_path, '[\n  {"a": 1},\n\n  {"a":\n 2}, {"a": 3}\n]\n')
    rows = read_rows(path, "rows.json")
    assert [(row.number, row.line, row.value["a"]) for row in rows] == [
        (1, 2, 1),
        (2, 4, 2),
        (3, 5, 3),
    ]


def test_a_byte_order_mark_is_fine(tmp_path):
    assert read_rows(write(tmp_path, b"\xef\xbb\xbf[1]"), "rows.json")[0].value == 1


def test_what_json_writes_is_read_back(tmp_path):
    rows = [{"text": "é\n\u2028\U0001f600", "n": None}] * 3
    path = write(tmp_path, json.dumps(rows, ensure_ascii=False))
    assert [row.value for row in read_rows(path, "rows.json")] == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "rows.json is empty"),
        (b" \n ", "rows.json is empty"),
        (b"[]", "rows.json holds an empty list"),
        (b'{"a": 1}', "rows.json is not a JSON list"),
        (b"instruction,output\n", "rows.json is not a JSON list"),
        (b'[{"a": 1},\n {"a": }]', r"line 2, column 8: not valid JSON .* 1 row was readable"),
        (b'[{"a": 1},\n {"a": 2},\n]', r"line 3, column 1: .*comma before the closing \]"),
        (b'[{"a": 1} {"a": 2}]', r"line 1, column 11: .*expected a comma"),
        (b'[{"a": 1}', r"the file ends too early.* 1 row was readable"),
        (b'[{"a": "x\ny"}]', "line 1, column 10: .*0 rows were readable"),
        (b'[{"a": NaN}]', "NaN is not JSON"),
        (b"[1] [2]", "more text after the closing"),
        ("[1]".encode("utf-16"), "not UTF-8 text"),
        ('[\n"é"]'.encode("latin-1"), "line 2: this is not UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_broken_file_is_one_sentence_that_says_where(tmp_path, content, words):
    with pytest.raises(WorkbenchError, match=words):
        read_rows(write(tmp_path, content), "rows.json")


def test_a_missing_file_is_a_sentence(tmp_path):
    with pytest.raises(WorkbenchError, match=r"Cannot read gone\.json"):
        read_rows(tmp_path / "gone.json", "gone.json")
