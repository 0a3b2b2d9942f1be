"""The Runs tab in a real browser, with runs that nobody trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from tests.browser.test_walk import fill, open_tab
from tests.made_runs import DATA, PART, make_run
from workbench.runs.store import RunStore
from workbench.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NASTY = '<img src=x onerror="alert(1)"> *bold*'
CURVES = """
() => {
    const plot = document.querySelector('#runs-chart .js-plotly-plot');
    return plot && plot.data ? plot.data.map(curve => curve.name) : [];
}
"""


@pytest.fixture
def store(own_server):
    return RunStore(Settings(home_dir=own_server.home_dir))


def click_cell(page, text):
    # The table has a copy that nobody sees, to measure how wide the columns are.
    page.locator("#runs-table").get_by_text(text, exact=True).filter(visible=True).first.click()


def click_row(page, name):
    click_cell(page, name)
    expect(page.locator("#runs-name input, #runs-name textarea")).to_have_value(name)


def test_an_empty_workspace_says_what_to_do(page):
    open_tab(page, "6. Runs")
    expect(page.locator("#runs-note")).to_contain_text("No run yet")
    expect(page.locator("#runs-table")).to_be_hidden()


def test_find_name_compare_and_delete(own_page, store, screenshot):
    page = own_page
    make_run(store, "alpha", steps=60)
    make_run(store, "beta", {"learning_rate": 2e-3}, steps=90, start_loss=1.5)
    make_run(store, NASTY, {"method": "full"}, steps=60, outcome="failed", validation=())
    open_tab(page, "6. Runs")
    expect(page.locator("#runs-note")).to_contain_text("3 runs.")
    expect(page.locator("#runs-table")).to_contain_text(NASTY)
    assert page.locator("#runs-table img").count() == 0

    fill(page, "#runs-search", "beta lora")
    expect(page.locator("#runs-note")).to_contain_text("1 of 3 runs.")
    click_row(page, "beta")
    expect(page.locator("#runs-status")).to_contain_text("beta: Finished")
    fill(page, "#runs-name", "faster")
    fill(page, "#runs-tags", "keep, rate")
    fill(page, "#runs-text", "A higher rate.")
    page.locator("#runs-save").click()
    expect(page.locator("#runs-status")).to_contain_text("faster: Finished")
    expect(page.locator("#runs-note")).to_contain_text("None of your 3 runs")
    fill(page, "#runs-search", "KEEP higher")
    expect(page.locator("#runs-table")).to_contain_text("keep, rate")
    page.locator("#runs-add").click()

    fill(page, "#runs-search", "")
    expect(page.locator("#runs-note")).to_contain_text("3 runs.")
    page.locator("#runs-order input").click()
    page.get_by_role("option", name="By name").click()
    names = page.locator("#runs-table [role=gridcell][aria-colindex='1']").filter(visible=True)
    expect(names.nth(1)).to_contain_text("alpha")
    for name in ("faster", "alpha"):  # in another order; a click still finds its run
        click_row(page, name)
    page.locator("#runs-add").click()
    expect(page.locator("#runs-side-by-side")).to_contain_text("What was set differently")
    expect(page.locator("#runs-side-by-side")).to_contain_text("0.002")
    page.wait_for_function(f"({CURVES})().length == 4")
    names = page.evaluate(CURVES)
    assert names[0] == "faster: training"
    screenshot(page, "6-runs")

    page.locator("#runs-delete").click()
    expect(page.locator("#runs-question")).to_contain_text("Delete “alpha”?")
    screenshot(page, "6-runs-delete")
    page.locator("#runs-really").click()
    expect(page.locator("#runs-note")).to_contain_text("2 runs.")
    expect(page.locator("#runs-details")).to_be_hidden()
    expect(page.locator("#runs-side-by-side")).to_be_hidden()
    assert sorted(run.name for run in store.all()) == sorted([NASTY, "faster"])


def test_a_run_is_duplicated_with_all_it_was_started_with(own_page, store):
    page = own_page
    settings = {"learning_rate": 2e-3, "epochs": 7, "lora_rank": 4}
    data = replace(DATA, parts=(replace(PART, id="sample-bookings", name="bookings.json"),))
    old = make_run(store, "old one", settings, data)
    for number in range(11):  # so many that the list of starting points no longer names it
        make_run(store, f"newer {number}")
    open_tab(page, "6. Runs")
    fill(page, "#runs-search", "old")
    expect(page.locator("#runs-note")).to_contain_text("1 of 12 runs.")
    click_row(page, "old one")
    page.locator("#runs-duplicate").click()
    expect(page.locator("#configure-preset input")).to_have_value("As in the run old one")
    expect(page.locator("#configure-epochs input")).to_have_value("7")
    expect(page.locator("#configure-learning-rate input")).to_have_value("0.002")
    open_tab(page, "1. Data")
    expect(page.locator("#data-summary")).to_contain_text("bookings")
    open_tab(page, "2. Configure")
    expect(page.locator("#configure-preset input")).to_have_value("As in the run old one")
    assert old in store.all()  # untouched


def test_a_run_that_was_deleted_meanwhile_is_a_sentence(own_page, store):
    page = own_page
    run = make_run(store, "gone")
    make_run(store, "stays")
    open_tab(page, "6. Runs")
    expect(page.locator("#runs-note")).to_contain_text("2 runs.")
    store.delete(run)
    click_cell(page, "gone")
    expect(page.get_by_test_id("toast-body")).to_contain_text("This run was deleted meanwhile")
    page.locator("#runs-refresh").click()
    expect(page.locator("#runs-note")).to_contain_text("1 run.")
