"""The Evaluate tab: its tables and words, and its listeners."""

from __future__ import annotations

import gradio as gr

from tests.evaluation.test_report import HOSTILE, part_of, run_with, say
from tests.ui.test_wiring import changed_by_itself
from workbench.child_progress import Progress
from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.result import read_evaluation
from workbench.evaluation.rows import select_rows
from workbench.ui.evaluate_tab import HELD_BACK, SAVED_MODEL, build_evaluate_tab
from workbench.ui.evaluate_views import HEADERS, card_html, progress_words, rows_table


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
    everything = rows_table(evaluation.rows, "all", "file")
    wrong = rows_table(evaluation.rows, "tuned_wrong", "loss")
    assert len(everything) == 10
    assert all(len(cells) == len(HEADERS) for cells in everything)
    assert len(wrong) == sum(row.index % 2 for row in evaluation.rows)
    assert rows_table(evaluation.rows, "got_worse", "loss") == wrong  # the base model had all right


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
    choices = [run.id, SAVED_MODEL, HELD_BACK, "", "auto", "all", "file"]
    line, card, lower, table, report, timer, stop = show(*choices)
    assert not line.visible
    assert "accuracy" in card
    assert lower.visible
    assert len(table.value["data"]) == 10
    assert report.endswith(".html")
    assert not timer.active
    assert not stop.interactive
    assert show(*[None, *choices[1:]])[1] == ""


def test_a_run_that_was_deleted_is_not_looked_for_again_and_again(services):
    show = handler(built(services), "show")
    line, card, lower, *_, timer, stop = show(
        "20260101-000000-gone", SAVED_MODEL, HELD_BACK, "", "auto", "all", "file"
    )
    assert (line.visible, card, lower.visible) == (False, "", False)
    assert not timer.active
    assert not stop.interactive


def test_no_listener_sets_itself_off(services):
    assert changed_by_itself(built(services).fns) == set()
