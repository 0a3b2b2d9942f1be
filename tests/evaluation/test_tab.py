"""The Evaluate tab: its tables and words, and its listeners."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from tests.evaluation.test_comparing import answer, trained
from tests.evaluation.test_report import HOSTILE, part_of, run_with, say
from tests.ui.test_wiring import changed_by_itself
from workbench.child_progress import Progress
from workbench.deleting import delete_run
from workbench.errors import WorkbenchError
from workbench.evaluation.comparing import compared_requests, find_comparison
from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.result import read_evaluation
from workbench.evaluation.rows import select_rows
from workbench.runs.checkpoints import mark_complete
from workbench.ui.evaluate_compare import NOT_YET
from workbench.ui.evaluate_compare_views import compared_rows
from workbench.ui.evaluate_compare_views import kept_rows as compared_kept
from workbench.ui.evaluate_files import json_file
from workbench.ui.evaluate_tab import (
    HELD_BACK,
    SAVED_MODEL,
    _request,
    build_evaluate_tab,
    state_choice,
)
from workbench.ui.evaluate_views import (
    HEADERS,
    card_html,
    kept_rows,
    progress_words,
    rows_table,
    shown_words,
)


def built(services):
    with gr.Blocks() as page, gr.Tabs(), gr.Tab("Evaluate") as tab:
        build_evaluate_tab(services, page, tab)
    return page


def handler(page, name):
    return next(function.fn for function in page.fns.values() if function.name == name)


def evaluated(services):
    rows = [
        {"instruction": f"{HOSTILE} {n}", "output": f"{HOSTILE[:30]}{n % 2}"} for n in range(40)
    ]
    run = run_with(services, part_of(services, rows))
    asked = select_rows(run, EvaluationRequest()).rows
    say(run, EvaluationRequest(), "base", {row.index: row.expected for row in asked})
    wrong = {row.index: "?" if row.index % 2 else row.expected for row in asked}
    say(run, EvaluationRequest(), "tuned", wrong)
    return run, read_evaluation(run, EvaluationRequest())


def test_filters_and_order(services):
    _, evaluation = evaluated(services)
    everything = kept_rows(evaluation.rows, "all", "file")
    wrong = kept_rows(evaluation.rows, "tuned_wrong", "loss")
    assert len(everything) == 10
    assert all(len(cells) == len(HEADERS) for cells in rows_table(everything))
    assert len(wrong) == sum(row.index % 2 for row in evaluation.rows)
    assert kept_rows(evaluation.rows, "got_worse", "loss") == wrong  # the base model had all right


def test_a_run_without_a_saved_model_is_evaluated_as_its_newest_checkpoint(services):
    run, _ = evaluated(services)
    for step in (4, 8):
        (run.checkpoints_dir / f"checkpoint-{step}").mkdir(parents=True)
        mark_complete(run.checkpoints_dir / f"checkpoint-{step}")
    assert state_choice(run).value == SAVED_MODEL
    run.model_dir.rename(run.directory / "elsewhere")
    offered = state_choice(run)
    assert [tuple(choice) for choice in offered.choices] == [
        ("Checkpoint of step 4", "4"),
        ("Checkpoint of step 8", "8"),
    ]
    assert offered.value == "8"
    assert _request(services, run, SAVED_MODEL, HELD_BACK, "").checkpoint == 8  # not chosen yet
    with pytest.raises(WorkbenchError, match="can be evaluated: --checkpoint 8"):
        EvaluationRequest().tuned_dir(run)


def test_a_table_that_is_cut_says_so(services):
    _, evaluation = evaluated(services)
    assert len(rows_table(evaluation.rows * 60)) == 500
    assert shown_words(600).startswith("The first 500 of 600 rows")
    assert shown_words(500) == "500 rows"
    assert "500" not in shown_words(10)


def test_a_row_is_opened_and_put_into_a_dataset(services):
    run, evaluation = evaluated(services)
    page = built(services)
    wrong = kept_rows(evaluation.rows, "tuned_wrong", "file")[0]
    cells = rows_table([wrong])[0]
    event = gr.SelectData(None, {"index": [0, 1], "value": "", "row_value": cells})
    choices = [run.id, [], SAVED_MODEL, HELD_BACK, ""]
    panel, html, opened, *_ = handler(page, "open_row")(*choices, event)
    assert panel.visible
    assert opened == wrong
    assert "<mark>?</mark>" in html
    assert "<script" not in html
    keeps = [function.fn for function in page.fns.values() if function.name == "keep"]
    for keep in keeps:
        assert "Added. good-answers.jsonl has" in keep(opened)
    (info,) = services.datasets.uploads()[:1]
    kept = [row.messages for row in services.datasets.rows(info.id, 0, 5)]
    assert [messages[-1]["content"] for messages in kept] == [wrong.expected, "?"]
    assert all(messages[:-1] == wrong.asked for messages in kept)
    gone = gr.SelectData(None, {"index": [0, 1], "value": "", "row_value": ["0", "a", "b"]})
    assert not handler(page, "open_row")(*choices, gone)[0].visible


def test_the_document_is_saved_as_json(services):
    run, _ = evaluated(services)
    name, text = json_file([run], EvaluationRequest(), None)
    assert name == f"report-{run.id}.json"
    assert len(json.loads(text)["rows"]) == 10
    assert json.loads(text)["curves"]["held_back"][0] == [0, 2.1]
    with pytest.raises(WorkbenchError, match="Nothing was evaluated yet"):
        json_file([run], EvaluationRequest(strength=0.5), None)


def test_the_card_is_escaped(services):
    _, evaluation = evaluated(services)
    text = card_html(evaluation)
    assert "<script" not in text
    assert "&lt;script" in text
    assert "Worse by accuracy" in text


def test_progress_in_words():
    assert progress_words(None) == progress_words(Progress(state="finished")) == ""
    moment = Progress("The tuned model answers", 5, 10, part_began=0.0, time=100.0)
    assert progress_words(moment) == (
        "The tuned model answers: 5 of 10, about 2 minutes left of this part…"
    )
    assert progress_words(Progress(state="failed", message="No.", hint="Try.")) == "No. Try."


def test_what_was_evaluated_before_is_shown_at_once(services):
    run, _ = evaluated(services)
    show = handler(built(services), "show")
    choices = [run.id, [], SAVED_MODEL, HELD_BACK, "", "auto", "all", "file", "all"]
    line, card, lower, table, report, panel, *_, timer, stop = show(*choices)
    assert not panel.visible
    assert not line.visible
    assert "accuracy" in card
    assert lower.visible
    assert len(table.value["data"]) == 10
    assert report.endswith(".html")
    assert not timer.active
    assert not stop.interactive
    assert show(*[None, *choices[1:]])[1] == ""
    delete_run(services, run)
    assert not Path(report).exists()


def compared(services):
    rows = [
        {"instruction": f"Is {n} even?", "output": "no" if n % 2 else HOSTILE} for n in range(40)
    ]
    part = part_of(services, rows)
    runs = [trained(services, HOSTILE[:60], part), trained(services, "second", part)]
    answer(
        compared_requests(runs, EvaluationRequest()),
        {"base": lambda i: False, runs[0].name: lambda i: i % 2, "second": lambda i: True},
    )
    return runs


def test_several_runs_are_shown_side_by_side(services):
    first, second = compared(services)
    show = handler(built(services), "show")
    line, card, lower, _, _, panel, html, table, report, timer, _ = show(
        first.id, [second.id], SAVED_MODEL, HELD_BACK, "", "auto", "all", "file", "all"
    )
    assert (line.visible, card, lower.visible, panel.visible, timer.active) == (
        False, "", False, True, False,
    )  # fmt: skip
    assert "<script" not in html
    assert "more than chance" in html
    assert table.value["headers"][-1] == "second"
    assert len(table.value["data"]) == 10
    assert "What was set the same" in Path(report).read_text()
    name, text = json_file([first, second], EvaluationRequest(compared=(first.id, second.id)), None)
    assert name == f"compare-{first.id}.json"
    assert set(json.loads(text)["curves"]) == {first.id, second.id}
    only_first = [first.id, [], SAVED_MODEL, HELD_BACK, "", "auto", "all", "file", "all"]
    assert not show(*only_first)[5].visible


def test_the_rows_where_all_models_agree_can_be_left_out(services):
    comparison = find_comparison(compared(services), EvaluationRequest())
    agreed = replace(comparison.rows[0], sides={"base": comparison.rows[0].sides["base"]})
    comparison = replace(comparison, rows=[agreed, *comparison.rows[1:]])
    assert len(compared_rows(compared_kept(comparison, "all"))) == 10
    assert len(compared_rows(compared_kept(comparison, "differ"))) == 9


def test_a_comparison_that_was_not_asked_yet_says_how_to(services):
    part = part_of(services, [{"instruction": f"{n}", "output": f"{n}"} for n in range(40)])
    first, second = trained(services, "first", part), trained(services, "second", part)
    page = built(services)
    choices = [SAVED_MODEL, HELD_BACK, "", "auto", "all", "file", "all"]
    line, *_ = handler(page, "show")(first.id, [second.id], *choices)
    assert (line.visible, line.value) == (True, NOT_YET)
    everything = trained(services, "all", part, validation=part)
    line, *_ = handler(page, "show")(first.id, [everything.id], *choices)
    assert "Every one of the 10 rows" in line.value
    others, *_ = handler(page, "describe")(first.id, [second.id, first.id])
    assert others.value == [second.id]
    assert first.id not in [run_id for _, run_id in others.choices]


def test_a_run_that_was_deleted_is_not_looked_for_again_and_again(services):
    show = handler(built(services), "show")
    line, card, lower, *_, timer, stop = show(
        "20260101-000000-gone", [], SAVED_MODEL, HELD_BACK, "", "auto", "all", "file", "all"
    )
    assert (line.visible, card, lower.visible) == (False, "", False)
    assert not timer.active
    assert not stop.interactive


def test_a_run_whose_data_is_gone_shows_nothing_of_the_run_before(services):
    run, _ = evaluated(services)
    show = handler(built(services), "show")
    choices = [[], SAVED_MODEL, HELD_BACK, "", "auto", "all", "file", "all"]
    assert "accuracy" in show(run.id, *choices)[1]
    other, _ = evaluated(services)
    Path(other.data.parts[0].path).unlink()
    line, card, lower, *_ = show(other.id, *choices)
    assert (card, lower.visible) == ("", False)
    assert line.visible
    assert "is gone or was changed" in line.value


def test_no_listener_sets_itself_off(services):
    assert changed_by_itself(built(services).fns) == set()
