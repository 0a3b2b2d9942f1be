"""Card, document and report from answers on disk, without any model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.made_runs import make_run
from workbench.child_progress import ProgressWriter
from workbench.data.conversations import read_stored_rows
from workbench.data.split import split_rows
from workbench.errors import WorkbenchError
from workbench.evaluation.answers import Answer, GeneralLoss, PlainAnswer, RowLoss, append_answers
from workbench.evaluation.card import card_lines
from workbench.evaluation.document import as_json
from workbench.evaluation.process import PROGRESS
from workbench.evaluation.report import curve, report_html
from workbench.evaluation.request import EvaluationRequest, read_request, write_request
from workbench.evaluation.result import find_evaluation, is_answered, read_evaluation
from workbench.evaluation.rows import general_rows, select_rows
from workbench.export.card import model_card
from workbench.export.measured import measured_text
from workbench.models.sources import find_model
from workbench.runs.record import Record
from workbench.runs.store import DataPart, DataReference, write_json
from workbench.ui.evaluate_views import card_html

HOSTILE = '</td><script>alert("x")</script><img src=x onerror=alert(1)>{{ 7*7 }}'


def part_of(services, rows, name="rows.json"):
    path = services.settings.home_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")
    info = services.datasets.add(path, name)
    return DataPart(
        info.id, info.name, str(services.datasets.path(info.id)), info.sha256, info.row_count
    )


def run_with(services, part, **values):
    general = services.datasets.info("sample-general-heldout")
    check = DataPart(general.id, general.name, str(services.datasets.path(general.id)),
                     general.sha256, general.row_count)  # fmt: skip
    data = DataReference((part,), None, 0.25, 42, general_check=check)
    run = make_run(services.runs, data=data, **{"name": "made"} | values)
    run.model_dir.mkdir()
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"weights")
    return run


def say(run, request, name, answers, *, general=2.0, losses=1.0):
    """Write what a model would have said: ``answers`` by index."""
    path = request.answer_paths(run)[name]
    write_request(run, request)
    asked = general_rows(run)
    facts = {"answer_tokens": 16, "general": [row.index for row in asked]}
    write_json(request.directory(run) / "facts.json", facts)
    ProgressWriter(request.directory(run) / PROGRESS).end("finished")
    append_answers(path, [Answer(index, text, 3) for index, text in answers.items()])
    append_answers(path, [RowLoss(index, losses, 1, 2) for index in answers])
    append_answers(path, [GeneralLoss(row.index, general, 5, 10) for row in asked])


@pytest.fixture
def labelled(services):
    rows = [{"instruction": f"Is {n} even?", "output": "no" if n % 2 else "yes"} for n in range(40)]
    return run_with(services, part_of(services, rows))


@pytest.fixture
def answered(labelled):
    request = EvaluationRequest()
    rows = select_rows(labelled, request).rows
    say(labelled, request, "base", {row.index: "Well, yes." for row in rows})
    say(labelled, request, "tuned", {row.index: row.expected for row in rows}, general=2.4)
    return labelled, request, rows


def test_a_run_that_was_renamed_has_its_new_name_in_the_report(services, answered):
    run, request, _ = answered
    assert find_evaluation(run, request).run.name == run.name
    renamed = services.runs.label(run, "better name", (), "")
    assert find_evaluation(renamed, request).run.name == "better name"


def test_the_rows_are_exactly_those_held_back(labelled):
    stored = read_stored_rows(Path(labelled.data.parts[0].path))
    held_back = split_rows([{"messages": row.messages} for row in stored], 0.25, 42)[1]
    rows = select_rows(labelled, EvaluationRequest()).rows
    assert [row.row for row in rows] == [stored[index].row for index in held_back]


def test_a_higher_limit_keeps_the_rows_of_a_lower_one(labelled):
    def few(limit):
        return {row.index for row in select_rows(labelled, EvaluationRequest(limit=limit)).rows}

    assert len(few(3)) == 3
    assert few(3) < few(6) < few(100)
    assert EvaluationRequest(limit=3).directory(labelled) == EvaluationRequest().directory(labelled)


def test_changed_data_is_refused(labelled):
    with Path(labelled.data.parts[0].path).open("a") as file:
        file.write("\n")
    with pytest.raises(WorkbenchError, match="gone or was changed"):
        select_rows(labelled, EvaluationRequest())


def test_a_file_of_two_classes_knows_the_third(services):
    rows = [{"instruction": f"Row {n}?", "output": ("a", "b", "c")[n % 3]} for n in range(60)]
    run = run_with(services, part_of(services, rows))
    other = [{"instruction": f"New {n}?", "output": ("a", "b")[n % 2]} for n in range(8)]
    request = EvaluationRequest(data=part_of(services, other, "other.json"), tuned=False)
    asked = select_rows(run, request).rows
    say(run, request, "base", {row.index: "c" for row in asked})
    evaluation = read_evaluation(run, request)
    assert evaluation.task == "labels"
    assert evaluation.metrics["base"].figures["no_label"].value == 0
    Path(run.data.parts[0].path).unlink()  # then there is only the file to tell it from
    assert select_rows(run, request).learned_answers == []


def test_rows_of_a_validation_file_that_cannot_be_read_are_counted(services, tmp_path):
    path = tmp_path / "check.json"
    good = [{"instruction": f"New {n}?", "output": "a" if n % 2 else "b"} for n in range(12)]
    path.write_text(json.dumps([*good, {"instruction": "No answer", "output": ""}]))
    check = services.part(services.datasets.add(path, path.name))
    rows = [{"instruction": f"Row {n}?", "output": "ab"[n % 2]} for n in range(40)]
    data = DataReference((part_of(services, rows),), check, 0.0, 42)
    run = make_run(services.runs, data=data)
    run.model_dir.mkdir()
    request = EvaluationRequest(tuned=False)
    say(run, request, "base", {index: "a" for index in range(12)})
    evaluation = read_evaluation(run, request)
    assert "1 of the file without a usable question and answer" in card_lines(evaluation)[0]
    document = as_json(evaluation)
    assert document["data"]["left_out_rows"] == 1
    # What it learned from was not asked.
    assert [part["name"] for part in document["data"]["parts"]] == ["check.json"]
    asked_from = report_html(evaluation).split("Asked from")[1].split("Rows asked")[0]
    assert "check.json" in asked_from
    assert "rows.json" not in asked_from


def test_rows_that_were_learned_from_are_warned_of(labelled):
    part = labelled.data.parts[0]
    request = EvaluationRequest(data=part)
    rows = select_rows(labelled, request).rows
    for name in ("base", "tuned"):
        say(labelled, request, name, {row.index: row.expected for row in rows})
    evaluation = read_evaluation(labelled, request)
    assert evaluation.learned_rows == 30  # a quarter of 40 was held back
    assert "learned from 30 of these 40 rows" in "".join(card_lines(evaluation))
    assert as_json(evaluation)["data"]["learned_rows"] == 30
    held_back = EvaluationRequest()
    rows = select_rows(labelled, held_back).rows
    for name in ("base", "tuned"):
        say(labelled, held_back, name, {row.index: row.expected for row in rows})
    assert read_evaluation(labelled, held_back).learned_rows == 0
    assert "learned from" not in "".join(card_lines(read_evaluation(labelled, held_back)))


def test_the_model_card_has_what_was_measured(answered):
    run, _, _ = answered
    text = measured_text(run, None, 1.0)
    assert re.search(r"\| accuracy \| 0.0 % \(.+\) \| 100.0 % \(.+\) \|", text)
    assert "Keeps 96 % of what it knew by one measure" in text
    assert measured_text(run, None, 0.5) == ""
    record, source = Record(), find_model(run.config.model)
    card = model_card(run, record, source, "merged", [], measured=text)
    assert card.index("## What was measured") < card.index("| accuracy |")


def test_what_became_of_plain_questions_is_shown(answered):
    run, request, _ = answered
    assert "plain questions" not in "".join(card_lines(read_evaluation(run, request)))
    said = {"base": ["It is Paris.", "tokyo", "five"], "tuned": ["Comparison", HOSTILE, "It is 4!"]}
    for name, answers in said.items():
        append_answers(
            request.answer_paths(run)[name], [PlainAnswer(*pair) for pair in enumerate(answers)]
        )
    evaluation = read_evaluation(run, request)
    words = "Of 3 plain questions it answers 1 rightly, before training 2; 2 that it knew are wrong now."
    assert words in card_lines(evaluation)
    assert words in measured_text(run, None, 1.0)
    assert as_json(evaluation)["plain_questions"][2]["tuned_right"] is True
    for page in (report_html(evaluation), card_html(evaluation)):
        assert "It is Paris." in page
        assert "<script>alert" not in page


def test_the_report_marks_what_differs(answered):
    run, request, _ = answered
    page = report_html(read_evaluation(run, request))
    assert "<mark>Well, yes.</mark>" in page or "<mark>Well,</mark>" in page
    assert '<td class="text right">yes</td>' in page


def test_the_model_card_has_figures_on_another_file(labelled, services):
    rows = [{"instruction": f"New {n}?", "output": "yes" if n % 2 else "no"} for n in range(9)]
    request = EvaluationRequest(data=part_of(services, rows, "new|er.json"), limit=6)
    for name in ("base", "tuned"):
        asked = {row.index: "yes" for row in select_rows(labelled, request).rows}
        say(labelled, request, name, asked)
    assert "6 rows of new\\|er.json" in measured_text(labelled, None, 1.0)


def test_a_request_is_read_as_it_was_written(labelled, services):
    part = part_of(services, [{"instruction": "a", "output": "b"}], "other.json")
    request = EvaluationRequest(data=part, limit=3, checkpoint=None)
    assert read_request(write_request(labelled, request)) == request


def test_what_is_not_there_is_said_in_words(labelled):
    with pytest.raises(WorkbenchError, match="no checkpoint of step 7"):
        EvaluationRequest(checkpoint=7).answer_paths(labelled)
    (labelled.model_dir / "adapter_model.safetensors").unlink()
    labelled.model_dir.rmdir()
    with pytest.raises(WorkbenchError, match="no model"):
        EvaluationRequest().answer_paths(labelled)


def test_the_json_document_has_every_figure(answered):
    run, request, rows = answered
    assert is_answered(run, request)
    document = as_json(read_evaluation(run, request))
    json.dumps(document, allow_nan=False)
    assert document["task"] == "labels"
    assert document["complete"] is True
    assert document["metrics"]["base"]["accuracy"] == 0.0
    assert document["metrics"]["base"]["accuracy_in_sentence"] == 0.5
    assert document["metrics"]["base"]["no_label"] == 1.0
    assert document["metrics"]["tuned"]["accuracy"] == 1.0
    assert document["intervals"]["tuned"]["accuracy"][0] < 0.8
    assert document["counts"]["tuned"]["accuracy"] == len(rows) == 10
    assert document["comparison"]["better"] == 10
    assert document["forgetting"]["kept"]["value"] == pytest.approx(2.718281828 ** (0.2 - 0.24))
    row = document["rows"][0]
    assert (row["base"], row["tuned"], row["expected"]) == (
        "Well, yes.",
        rows[0].expected,
        rows[0].expected,
    )
    assert row["base_loss"] == 0.5


def test_what_was_learned_besides_is_no_more_than_everything(labelled):
    request = EvaluationRequest()
    rows = select_rows(labelled, request).rows
    for name, general in (("base", 2.0), ("tuned", 1.0)):
        say(labelled, request, name, {row.index: "yes" for row in rows}, general=general)
    assert read_evaluation(labelled, request).forgetting.kept.value == 1.0


def test_half_of_the_answers_are_shown_as_half(labelled):
    request = EvaluationRequest()
    rows = select_rows(labelled, request).rows
    say(labelled, request, "base", {row.index: "yes" for row in rows})
    say(labelled, request, "tuned", {row.index: "yes" for row in rows[:4]})
    assert not is_answered(labelled, request)
    evaluation = read_evaluation(labelled, request)
    assert not evaluation.is_complete
    assert len(evaluation.rows) == 4
    assert "6 not answered yet" in "\n".join(card_lines(evaluation))


def test_a_row_too_long_to_read_is_counted(labelled):
    request = EvaluationRequest(tuned=False)
    rows = select_rows(labelled, request).rows
    say(labelled, request, "base", {row.index: "yes" for row in rows[1:]})
    path = request.answer_paths(labelled)["base"]
    append_answers(path, [Answer(rows[0].index, None), RowLoss(rows[0].index, 0.0, 0, 0)])
    evaluation = read_evaluation(labelled, request)
    assert (evaluation.too_long, evaluation.is_complete) == (1, True)
    assert "1 longer than the model can read" in card_lines(evaluation)[0]
    assert evaluation.forgetting is evaluation.comparison is None


def test_a_torn_line_is_asked_again(answered):
    run, request, rows = answered
    path = request.answer_paths(run)["tuned"]
    with path.open("a") as file:
        file.write('{"kind": "answer", "ind')
    append_answers(path, [Answer(rows[0].index, "again", 1)])
    assert read_evaluation(run, request).rows[0].tuned.answer == "again"


def test_the_way_to_compare_can_be_changed(answered):
    run, request, _ = answered
    assert "chrf" in read_evaluation(run, request, "text").metrics["base"].figures


def test_the_card_has_figures_intervals_and_what_was_forgotten(answered):
    run, request, _ = answered
    text = "\n".join(card_lines(read_evaluation(run, request)))
    assert "10 rows that were held back, compared as few distinct answers." in text
    assert re.search(r"accuracy +0\.0 % \(0\.0 to 27\.8\) +100\.0 % \(72\.2 to 100\.0\)", text)
    assert "Better by accuracy: +100.0 points" in text
    assert "10 rows are few" in text
    assert "Keeps 96 % of what it knew by one measure" in text


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [name for name, _ in attrs]


def test_the_report_escapes_whatever_rows_and_names_say(services):
    rows = [
        {"instruction": f"{HOSTILE} {n}", "output": f"{HOSTILE[:30]}{n % 2}"} for n in range(40)
    ]
    run = run_with(services, part_of(services, rows), name=HOSTILE[:60])
    request = EvaluationRequest()
    asked = select_rows(run, request).rows
    say(run, request, "base", {row.index: HOSTILE for row in asked})
    say(run, request, "tuned", {row.index: row.expected for row in asked})
    page = Page(text := report_html(read_evaluation(run, request)))
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on") or name == "src"]
    assert "default-src 'none'" in text
    assert "&lt;script&gt;" in text
    assert "{{ 7*7 }}" in text
    assert "http" not in text.replace("http-equiv", "").replace("sha256", "")


def test_the_report_has_everything_on_one_page(answered):
    run, request, _ = answered
    text = report_html(read_evaluation(run, request))
    for words in ("Keeps 96 %", "macro-F1", "What was taken for what, tuned", "<polyline",
                  run.data.parts[0].sha256, "learning_rate", "Is 1"):  # fmt: skip
        assert words in text, words


def test_a_curve_needs_two_points():
    assert curve("a", [("line", "red", [(0, 1.0), (5, None)])]) is None
    drawn = curve("a", [("line", "red", [(0, 1.0), (10, 3.0)])])
    assert drawn.lines[0].points == "56.0,172.0 630.0,12.0"


def test_what_page_and_terminal_use_has_no_torch():
    names = "metrics, report, result, card, process, rows"
    modules = ", ".join(f"workbench.evaluation.{name}" for name in names.split(", "))
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
