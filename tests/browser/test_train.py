"""The line, stop, resume and continue on the Train tab, with the real server and trainer."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_walk import (
    POINTS,
    configure_tiny_run,
    open_tab,
    upload,
    wait_for_state,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


NOTIFICATIONS = """() => {
    window.told = [];
    window.Notification = class {
        static permission = 'granted';
        static requestPermission = async () => 'granted';
        constructor(title, options) { window.told.push(options.body); }
    };
}"""


def start(page, name):
    page.locator("#train-name input, #train-name textarea").first.fill(name)
    page.locator("#train-start").click()


def show(page, name):
    page.locator("#train-run input").click()
    page.get_by_role("option", name=name).first.click()
    expect(page.locator("#train-status")).to_contain_text(name)


def test_the_line_and_what_can_be_done_with_a_run(own_page, alpaca_file, screenshot):
    page = own_page
    upload(page, alpaca_file)
    expect(page.locator("#data-summary")).to_contain_text("counting.json")
    configure_tiny_run(page, steps=100_000)
    open_tab(page, "3. Train")
    page.evaluate(NOTIFICATIONS)
    page.locator("#train-notify input").check()
    start(page, "the first")
    wait_for_state(page, "running")
    expect(page).to_have_title(re.compile("(Running|%) · the first"))
    expect(page.locator("#train-start")).to_contain_text("Put in line")
    start(page, "the second")
    wait_for_state(page, "queued")
    expect(page.locator("#train-line")).to_contain_text("the second")
    start(page, "the third")
    expect(page.locator("#train-status")).to_contain_text("number 2 in the line")
    screenshot(page, "3-train-line")
    page.locator("#train-sooner").click()
    expect(page.locator("#train-status")).to_contain_text("before it has ended")
    page.locator("#train-leave").click()
    wait_for_state(page, "stopped")
    expect(page.locator("#train-line")).not_to_contain_text("the third")

    show(page, "the first")
    page.wait_for_function(f"({POINTS})() > 1", timeout=90_000)
    expect(page.locator("#train-samples")).to_contain_text("Before")
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    expect(page).to_have_title("Stopped · the first")
    assert page.evaluate("told") == ["Stopped · the third", "Stopped · the first"]
    expect(page.locator("#train-resume")).to_contain_text("Resume from step")
    # The next in line begins by itself, so the first one waits when it is resumed.
    show(page, "the second")
    wait_for_state(page, "running")
    show(page, "the first")
    page.locator("#train-resume").click()
    wait_for_state(page, "queued")
    page.locator("#train-leave").click()
    wait_for_state(page, "stopped")

    show(page, "the second")
    page.wait_for_function(f"({POINTS})() > 1", timeout=90_000)
    page.locator("#train-stop").click()
    wait_for_state(page, "stopped")
    page.get_by_text("Continue training", exact=True).first.click()
    page.locator("#train-epochs input").fill("0.2")
    page.locator("#train-continue").click()
    expect(page.locator("#train-status")).to_contain_text("the second, continued")
    wait_for_state(page, "finished")
