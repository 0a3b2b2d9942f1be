from tests.data.sample_files import ALPACA, as_json
from workbench.data.check import check_file
from workbench.data.conversations import StoredRow
from workbench.ui.data_views import CELL_CHARACTERS, report_html, rows_table, shorten

NASTY = '<img src=x onerror="alert(1)">'


def html_of(tmp_path, rows, name="mine.json"):
    path = tmp_path / "file"
    path.write_bytes(as_json(rows))
    return report_html(check_file(path, name))


def test_the_verdict_is_in_words(tmp_path):
    assert "mine.json: 25 examples, all in order" in html_of(tmp_path, ALPACA)
    assert "25 examples, ready, with 1 note" in html_of(tmp_path, [{**r, "id": 1} for r in ALPACA])
    assert "not ready yet, 25 of 26 rows can be used" in html_of(tmp_path, [*ALPACA, 3])
    assert "which column is what?" in html_of(tmp_path, [{"a": "1", "b": "2"}])


def test_names_columns_roles_and_contents_are_text(tmp_path):
    rows = [{"instruction": NASTY, "output": NASTY}] * 40 + [
        {"instruction": "Q", "output": "b"}
    ] * 40
    page = html_of(tmp_path, rows, NASTY) + html_of(tmp_path, [{NASTY: NASTY, "output": "A"}] * 2)
    page += html_of(tmp_path, [*ALPACA, {**ALPACA[0], "x": "`" + NASTY + "`", NASTY: 1}])
    page += html_of(tmp_path, [{"messages": [{"role": NASTY, "content": "x"}]}])
    assert "<img" not in page
    assert page.count("&lt;img") >= 4


def test_places_are_listed_and_the_rest_is_counted(tmp_path):
    page = html_of(tmp_path, [*ALPACA, *[{"instruction": "Q"}] * 9])
    assert "Row 26 (line 1): no answer. <code>output</code> is missing" in page
    assert "and 4 more" in page


def test_labels_are_drawn(tmp_path):
    rows = [{"text": str(n), "label": "good" if n % 3 else "bad"} for n in range(30)]
    page = html_of(tmp_path, rows)
    assert "<span>good</span>" in page
    assert "<b>20</b>" in page


def test_the_table_shows_what_is_there():
    turn = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    system = [{"role": "system", "content": "S"}]
    assert rows_table([StoredRow(3, 9, turn)]) == (["Row", "Question", "Answer"], [["3", "Q", "A"]])
    headers, cells = rows_table([StoredRow(1, 1, [*system, *turn, *turn]), StoredRow(2, 2, turn)])
    assert headers == ["Row", "Question", "Answer", "Turns before", "System prompt"]
    assert cells == [["1", "Q", "A", "2", "S"], ["2", "Q", "A", "0", ""]]


def test_long_cells_are_cut():
    assert shorten("a b\n\nc") == "a b c"
    assert len(shorten("x" * 9999)) == CELL_CHARACTERS + 1


def test_a_right_to_left_text_is_set_apart():
    assert shorten("\u0645\u0631.") == "\u2068\u0645\u0631.\u2069"
