# ruff: noqa: RUF001 - Chinese has commas of its own
import gzip
import json

import pytest

from tests.data.sample_files import (
    ALPACA,
    FILES,
    LABELS,
    SHAREGPT,
    as_table,
    as_workbook,
    as_zip,
)
from workbench.data.readers import read_rows
from workbench.data.source import UnreadableFile, open_source


def read(tmp_path, content, name="rows.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with open_source(path, name) as source:
        rows = read_rows(source, name)
        return rows.container, source.encoding_name, list(rows.rows)


def read_values(tmp_path, content):
    return [row.value for row in read(tmp_path, content)[2]]


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_its_rows(tmp_path, name):
    expected = {"labels": LABELS, "sharegpt": SHAREGPT}.get(name.split(".")[0], ALPACA)
    rows = read(tmp_path, FILES[name], "misleading.txt")[2]
    if not name.startswith("openai"):
        assert [row.value for row in rows] == expected
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert not any(row.broken for row in rows)


@pytest.mark.parametrize(
    ("name", "container", "encoding"),
    [
        ("alpaca.json", "json", "utf-8"),
        ("alpaca.jsonl", "jsonl", "utf-8"),
        ("bom.json", "json", "utf-8"),
        ("utf16.json", "json", "utf-16"),
        ("utf16-be.json", "json", "utf-16"),
        ("semicolons.csv", "csv", "utf-8"),
        ("alpaca.tsv", "tsv", "utf-8"),
        ("alpaca.xlsx", "xlsx", ""),
        ("alpaca.parquet", "parquet", ""),
        ("labels.csv.gz", "csv", "utf-8"),
    ],
)
def test_the_kind_is_told_by_the_content(tmp_path, name, container, encoding):
    assert read(tmp_path, FILES[name], "misleading.txt")[:2] == (container, encoding)


def test_text_from_before_unicode_is_read(tmp_path):
    chinese = json.dumps([{"instruction": "你好，请介绍一下你自己。", "output": "我是一个语言模型。"}] * 9, ensure_ascii=False)  # fmt: skip
    container, encoding, rows = read(tmp_path, chinese.encode("gb18030"))
    assert (container, encoding) == ("json", "gb18030")
    assert rows[0].value["output"] == "我是一个语言模型。"
    french = json.dumps([{"instruction": "Où est l'été ?", "output": "L'été est passé, déjà."}] * 9, ensure_ascii=False)  # fmt: skip
    _, encoding, rows = read(tmp_path, french.encode("cp1252"))
    assert encoding == "cp1252"
    assert rows[0].value["output"] == "L'été est passé, déjà."


def test_rows_know_their_line(tmp_path):
    rows = read(tmp_path, '[\n  {"a": 1},\n\n  {"a":\n 2}, {"a": 3}\n]\n')[2]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 4), (3, 5)]
    rows = read(tmp_path, '{"a": 1}\n\n{"a": 2}\n')[2]
    assert [(row.number, row.line) for row in rows] == [(1, 1), (2, 3)]
    rows = read(tmp_path, 'a,b\n1,"x\ny"\n3,4\n')[2]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 4)]
    rows = read(tmp_path, as_workbook([{"a": 1, "b": 2}]))[2]
    assert [(row.number, row.line) for row in rows] == [(1, 2)]


def test_a_window_that_is_smaller_than_a_row_changes_nothing(tmp_path, monkeypatch):
    text = json.dumps({"meta": [1, 2], "data": ALPACA}, indent=2, ensure_ascii=False)
    whole = read(tmp_path, text)[2]
    monkeypatch.setattr("workbench.data.window.CHUNK_CHARACTERS", 7)
    assert read(tmp_path, text)[2] == whole
    assert read_values(tmp_path, "[12345678901, -1.5e3, true]") == [12345678901, -1500.0, True]
    broken = read(tmp_path, text.replace('"Say 9', "Say 9"))[2][-1]
    assert (broken.number, broken.line) == (9, 48)


def test_nan_is_an_empty_cell_and_a_huge_number_is_a_number(tmp_path):
    assert read_values(tmp_path, '[{"a": NaN, "b": -Infinity}]') == [{"a": None, "b": None}]
    assert read_values(tmp_path, f"[{'9' * 5000}]") == [float("inf")]


def test_a_broken_line_is_one_row_and_reading_goes_on(tmp_path):
    container, _, rows = read(tmp_path, '{"a": 1}\n{"a": }\nnonsense\n{"a": 4}\n')
    assert container == "jsonl"
    assert [bool(row.broken) for row in rows] == [False, True, True, False]
    assert rows[1].broken == "column 7: not valid JSON (expecting value)"
    rows = read(tmp_path, "a,b\n1,2\n3\n4,5,6\n7,8\n")[2]
    assert [row.broken for row in rows] == ["", "1 cells, but there are 2 columns", "3 cells, but there are 2 columns", ""]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "place", "words", "readable"),
    [
        ('[{"a": 1},\n {"a": }]', (2, 8), "expecting value", 1),
        ('[{"a": 1},\n {"a": 2},\n]', (3, 1), "a comma before the closing ]", 2),
        ('[{"a": 1} {"a": 2}]', (1, 11), "expected a comma or ]", 1),
        ('[{"a": 1}', (1, 10), "the file ends too early", 1),
        ('[{"a": 1}, {"a": "', (1, 18), "the file ends too early", 1),
        ('[{"a": "x\ny"}]', (1, 10), "invalid control character", 0),
        ("[1] [2]", (1, 5), "more text after the closing ]", 1),
        ("[" * 100_000, (1, 2), "it is nested too deeply", 0),
        ('{"data": [1, 2', (1, 15), "the file ends too early", 2),
    ],
)
def test_what_is_wrong_with_json_is_told_with_line_and_column(
    tmp_path, content, place, words, readable
):
    last = read(tmp_path, content)[2][-1]
    assert last.line == place[0]
    assert last.broken.startswith(f"column {place[1]:,}: not valid JSON ({words}")
    assert (
        f"{readable} row{'s were' if readable != 1 else ' was'} readable before it" in last.broken
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "rows.json is empty"),
        (b" \n ", "rows.json is empty"),
        (b"hello", "not a JSON list, and not a table either: it starts with 'hello'"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "rows.json is a picture"),
        (b"\x7fELF" + bytes(99) + b"\xff", "line 1: this is not UTF-8 text"),
        (b"%PDF-1.7\n", "rows.json is a PDF document"),
        (b"\xd0\xcf\x11\xe0" + bytes(99), "an old Office file (such as .xls or .doc)"),
        (as_zip("word/document.xml"), "rows.json is a Word document"),
        (as_zip("rows.json"), "rows.json is a ZIP archive"),
        (b"PK\x03\x04nonsense", "damaged Excel or ZIP file"),
        (b"PAR1nonsense", "damaged Parquet file"),
        # Without a time: the name of the test is made of these bytes.
        (gzip.compress(b"x" * 999, mtime=0)[:-9], "damaged gzip file"),
        (gzip.compress(b"", mtime=0), "holds nothing but a packed file"),
        (b",".join(b"c%d" % n for n in range(2000)) + b"\n", "more than 1,000 columns"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, content, words):
    with pytest.raises(UnreadableFile) as error:
        read(tmp_path, content)
    assert words in str(error.value)
    assert error.value.hint


def test_a_missing_file_is_a_sentence(tmp_path):
    with (
        pytest.raises(UnreadableFile, match=r"Cannot read gone\.json"),
        open_source(tmp_path / "gone.json", "gone.json"),
    ):
        pass


def test_a_formula_is_its_last_value_or_plain_text(tmp_path):
    row = {"instruction": "=1+1", "output": '=HYPERLINK("http://x")'}
    assert read_values(tmp_path, as_table([row])) == [row]  # in CSV it is text
    # In a workbook it has the value Excel last calculated, and here nobody did.
    assert read_values(tmp_path, as_workbook([{**row, "a": "x"}]))[0] == {"instruction": "", "output": "", "a": "x"}  # fmt: skip


def test_columns_without_a_name_or_with_one_twice_get_one(tmp_path):
    assert read_values(tmp_path, "a,,a\n1,2,3\n") == [{"a": "1", "column 2": "2", "column 3": "3"}]


def test_empty_lines_before_the_names_of_the_columns_are_passed_over(tmp_path):
    assert read_values(tmp_path, "\n\r\na,b\n1,2\n") == [{"a": "1", "b": "2"}]


def test_other_sheets_are_told(tmp_path):
    path = tmp_path / "book.xlsx"
    path.write_bytes(as_workbook(ALPACA, more_sheets=2))
    with open_source(path, "book.xlsx") as source:
        rows = read_rows(source, "book.xlsx")
        assert rows.notes == ("Only the first sheet is read, “Sheet”; there are 3.",)
