"""The report card in a real browser: evaluate, open a row, keep it, ask a judge, compare with another run."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import open_page, serve, train_counting
from tests.browser.test_walk import open_tab
from tests.fake_judge import FakeJudge

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

KEY = "sk-typed-in-the-page"
PATIENCE_MS = 90_000  # an evaluation starts a process that loads torch


@pytest.fixture(scope="module")
def evaluate_server(tmp_path_factory, tiny_model_dir):
    """A server whose workspace has two finished runs."""
    server = serve(tmp_path_factory.mktemp("evaluate"), tiny_model_dir)
    train_counting(server.home_dir, "slow", learning_rate=1e-4, validation_share=0.2)
    train_counting(server.home_dir, "fast", learning_rate=5e-2, validation_share=0.2)
    yield server
    server.end()


@pytest.fixture
def evaluate(browser, evaluate_server):
    page = open_page(browser, evaluate_server)
    open_tab(page, "5. Evaluate")
    expect(page.locator("#evaluate-run input")).to_have_value(re.compile("fast"))
    yield page
    page.close()


def press_evaluate(page, card):
    page.locator("#evaluate-go").click()
    expect(page.locator(card)).to_contain_text("rows", timeout=PATIENCE_MS)
    expect(page.locator("#evaluate-stop")).to_be_disabled(timeout=PATIENCE_MS)


def test_evaluate_open_a_row_keep_it_and_ask_a_judge(evaluate, evaluate_server, screenshot):
    page = evaluate
    press_evaluate(page, "#evaluate-card")
    expect(page.locator("#evaluate-card")).to_contain_text("4 rows that were held back")
    screenshot(page, "5-evaluate")
    with page.expect_download() as report:
        page.locator("#evaluate-report").click()
    assert "4 rows that were held back" in report.value.path().read_text(encoding="utf-8")
    with page.expect_download() as document:
        page.locator("#evaluate-json").click()
    metrics = json.loads(document.value.path().read_text(encoding="utf-8"))["metrics"]
    assert metrics.keys() == {"base", "tuned"}

    row = page.locator("#evaluate-rows [role=gridcell]").filter(visible=True, has_text="comes next")
    row.first.click()
    expect(page.locator("#evaluate-differences")).to_contain_text("comes next.")
    screenshot(page, "5-evaluate-row")
    page.locator("#evaluate-keep-expected").click()
    expect(page.locator("#evaluate-kept")).to_contain_text("has 1 row now")

    with FakeJudge().serve() as judge:
        judge.reply = lambda question, first, second: "Verdict: tie"
        page.get_by_role("button", name="Ask a judge").click()
        page.locator("#judge-url input, #judge-url textarea").first.fill(f"{judge.endpoint}/v1")
        page.locator("#judge-model input, #judge-model textarea").first.fill("referee")
        page.locator("#judge-key input").fill(KEY)
        assert judge.asked == []  # nothing leaves before the button
        page.locator("#judge-go").click()
        expect(page.locator("#evaluate-card")).to_contain_text(
            "The judge referee at", timeout=60_000
        )
        assert len(judge.asked) == 8  # four rows, either order
        assert judge.headers[0]["Authorization"] == f"Bearer {KEY}"
    screenshot(page, "5-evaluate-judged")
    kept = [path for path in evaluate_server.home_dir.rglob("*") if path.is_file()]
    assert not [path for path in kept if KEY.encode() in path.read_bytes()]


def test_two_runs_answer_the_same_rows(evaluate, screenshot):
    page = evaluate
    page.locator("#evaluate-others input").click()
    page.get_by_role("option", name=re.compile("slow")).click()
    expect(page.locator("#evaluate-status textarea")).to_have_value(re.compile("Press Evaluate"))
    press_evaluate(page, "#evaluate-compared")
    expect(page.locator("#evaluate-compared")).to_contain_text("0.05")
    expect(page.locator("#evaluate-compared")).to_contain_text("0.0001")
    expect(page.locator("#evaluate-card")).not_to_contain_text("held back")
    headers = page.locator("#evaluate-compared-rows th").filter(visible=True)
    expect(headers.filter(has_text="slow").first).to_be_visible()
    screenshot(page, "5-evaluate-compared")
    page.locator("#evaluate-compared-filter").get_by_label("Where the models differ").check()
    expect(page.locator("#evaluate-compared-rows")).to_contain_text("0 rows")
    with page.expect_download() as report:
        page.locator("#evaluate-compared-report").click()
    assert "slow" in report.value.path().read_text(encoding="utf-8")
