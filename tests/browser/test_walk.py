"""The whole walk of a newcomer, in a real browser, against the real server and trainer."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(480)]

STEPS = 150
ENDED = re.compile(
    r"^\s*(An answer was cut at its longest length, which is set under Advanced\.)?\s*$"
)
EVALUATED = re.compile(r"Likeness to the expected answers .* before, .* now\.")
POINTS = """
() => {
    const plot = document.querySelector('#train-chart .js-plotly-plot');
    return plot && plot._fullData && plot._fullData.length ? plot._fullData[0].x.length : 0;
}
"""


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def fill(page, selector, text):
    field = page.locator(f"{selector} input, {selector} textarea").first
    field.fill(text)
    field.press("Tab")


def upload(page, path):
    page.locator("#data-upload input[type=file]").set_input_files(path)


def configure_tiny_run(page, steps=STEPS):
    open_tab(page, "2. Configure")
    fill(page, "#configure-model", "tests/tiny")
    fill(page, "#configure-learning-rate", "1e-2")
    page.locator("#configure-keep-general input").uncheck()  # what it says before means nothing
    page.get_by_text("Advanced", exact=True).click()
    fill(page, "#configure-max-steps", str(steps))
    expect(page.locator("#configure-plan")).to_contain_text(f"{steps:,} steps")


def state(page):
    return page.locator("#train-status .wb-status").get_attribute("data-state")


def wait_for_state(page, wanted, seconds=90):
    page.locator(f"#train-status [data-state={wanted}]").wait_for(timeout=seconds * 1000)


def test_upload_train_reload_stop_and_chat(own_page, own_server, alpaca_file, screenshot):
    page, server = own_page, own_server
    expect(page.locator("#data-summary")).to_contain_text("identity.json")
    upload(page, alpaca_file)
    expect(page.locator("#data-summary")).to_contain_text(
        "counting.json: 40 examples, all in order"
    )
    expect(page.locator("#data-conversation")).to_contain_text("1 comes next.")
    page.locator("#data-table").get_by_text("What comes after 2?").click()
    expect(page.locator("#data-conversation")).to_contain_text("3 comes next.")
    screenshot(page, "1-data")

    configure_tiny_run(page)
    screenshot(page, "2-configure")

    open_tab(page, "3. Train")
    page.locator("#train-start").click()
    wait_for_state(page, "running")
    page.wait_for_function(f"({POINTS})() > 2", timeout=90_000)
    expect(page.locator("#train-status")).to_contain_text("tokens/s")
    expect(page.locator("#train-start")).to_have_text(
        "Put in line: start when the present run has ended"
    )
    screenshot(page, "3-train")

    # The person closes the page, the server dies and comes back: the same run is there, still going.
    before = page.evaluate(POINTS)
    server.end()
    server.start()
    page.goto(server.url)
    expect(page.locator("#data-summary")).to_contain_text("counting.json")
    open_tab(page, "3. Train")
    expect(page.locator("#train-status")).to_contain_text("counting")
    page.wait_for_function(f"({POINTS})() > {before}", timeout=60_000)
    wait_for_state(page, "finished")
    page.wait_for_function(f"({POINTS})() == {STEPS}")
    screenshot(page, "3-train-finished")

    open_tab(page, "4. Playground")
    question = page.locator("#playground-question textarea")
    question.fill("What comes after 3?")
    question.press("Enter")
    expect(page.locator("#playground-tuned .bot")).to_contain_text("comes next", timeout=60_000)
    expect(page.locator("#playground-base .bot")).to_be_visible(timeout=60_000)
    expect(page.locator("#playground-note")).to_have_text(ENDED, timeout=120_000)
    tuned = page.locator("#playground-tuned .bot").inner_text()
    assert tuned != page.locator("#playground-base .bot").inner_text()
    screenshot(page, "4-playground")

    # Meanwhile it was evaluated, though nobody asked for it.
    open_tab(page, "3. Train")
    expect(page.locator("#train-evaluation textarea")).to_have_value(EVALUATED, timeout=120_000)
    page.locator("#train-evaluate").click()
    expect(page.locator("#evaluate-card")).to_contain_text("10 rows that were held back")
    expect(page.locator("#evaluate-run input")).to_have_value(re.compile("counting"))
    expect(page.get_by_test_id("toast-body")).to_be_hidden()


def test_stop_keeps_what_was_learned(own_page, alpaca_file):
    page = own_page
    upload(page, alpaca_file)
    expect(page.locator("#data-summary")).to_contain_text("counting.json")
    configure_tiny_run(page, steps=100_000)
    open_tab(page, "3. Train")
    page.locator("#train-start").click()
    page.wait_for_function(f"({POINTS})() > 1", timeout=90_000)
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    expect(page.locator("#train-status")).to_contain_text("What it learned so far is saved.")
    expect(page.locator("#train-start")).to_have_text("Start training")
    expect(page.locator("#train-resume")).to_contain_text("Resume from step")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "wrong.json is empty"),
        (b"Dear diary", "wrong.json is not a JSON list, and not a table either"),
        (b"[{]", "Row 1 (line 1): column 3: not valid JSON"),
        (b'<img src="x" onerror="boom()">', "it starts with '<img src="),
        (b"\x89PNG" + bytes(50), "wrong.json is a picture"),
        ("[]".encode("utf-16"), "There is no row in the file"),
    ],
)
def test_a_wrong_file_is_one_sentence_and_nothing_is_lost(page, tmp_path, content, words):
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    expect(page.locator("#data-summary")).to_contain_text("identity.json")
    upload(page, path)
    notice = page.get_by_test_id("toast-body")
    expect(notice).to_contain_text(words)
    assert notice.locator("img").count() == 0
    assert "Traceback" not in page.content()
    expect(page.locator("#data-choice").get_by_text("Error")).to_be_hidden()
    expect(page.locator("#data-summary")).to_contain_text("identity.json")


def test_a_value_out_of_range_is_told_at_once_and_start_refuses(page):
    open_tab(page, "2. Configure")
    fill(page, "#configure-epochs", "-3")
    expect(page.locator("#configure-plan")).to_contain_text("Epochs cannot be '-3'")
    open_tab(page, "3. Train")
    expect(page.locator("#train-plan")).to_contain_text("Epochs cannot be '-3'")
    page.locator("#train-start").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("Epochs cannot be '-3'")


def test_a_model_that_does_not_exist_is_told(page):
    open_tab(page, "2. Configure")
    fill(page, "#configure-model", "../../etc")
    expect(page.locator("#configure-plan")).to_contain_text("There is no model '../../etc'")


def test_the_page_talks_to_nobody_else(browser, server):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    page.get_by_role("tab", name="3. Train").click()
    page.wait_for_timeout(2000)
    page.close()
    elsewhere = [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
    assert elsewhere == []


def test_no_monitoring_page_and_no_files_of_ours(page, server):
    for path in (
        "/monitoring/summary",
        f"/gradio_api/file={server.home_dir}/models/tests--tiny/config.json",
    ):
        assert page.request.get(server.url + path).status in (403, 404)
