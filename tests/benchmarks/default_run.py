"""How long does a beginner's first run take? With nothing touched, in a real browser; prints a Markdown table.

    python -m tests.benchmarks.default_run

A new workspace trains the starter model on the first sample, twice: the first time the model is asked about the
general examples, and its answers are kept. The page stays open at its chart, on the same processor.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser.conftest import CHROMIUM, CHROMIUM_FLAGS, Server
from workbench.settings import Settings

LONGEST_SECONDS = 1_200
POINTS = """
() => {
    const plot = document.querySelector('#train-chart .js-plotly-plot');
    return plot && plot._fullData && plot._fullData.length && plot._fullData[0].x.length;
}
"""
QUESTION = "Who are you?"


def measure(page: Page) -> tuple[float, float, float]:
    """Click on Start and then only look.

    Returns:
        Seconds to the first point of the chart, to the finished model, and from a question to its whole answer.
    """
    page.get_by_role("tab", name="3. Train").click()
    milliseconds = LONGEST_SECONDS * 1000
    began = time.perf_counter()
    page.locator("#train-start").click()
    page.locator("#train-status [data-state=running]").wait_for()
    page.wait_for_function(POINTS, timeout=milliseconds)
    first_point = time.perf_counter() - began
    page.locator("#train-status [data-state=finished]").wait_for(timeout=milliseconds)
    finished = time.perf_counter() - began
    page.get_by_role("tab", name="4. Playground").click()
    page.locator("#playground-clear").click()
    page.locator("#playground-tuned .bot").wait_for(state="hidden")
    field = page.locator("#playground-question textarea").first
    field.fill(QUESTION)
    began = time.perf_counter()
    field.press("Enter")
    page.locator("#playground-tuned .bot").get_by_text("Juniper").wait_for(timeout=milliseconds)
    return first_point, finished, time.perf_counter() - began


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home, models_dir = Path(folder), Settings.from_environment().models_dir
        (home / models_dir.name).symlink_to(models_dir)
        server = Server(home, home / "server.log")
        server.start()
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(server.url)
            page.locator("#data-summary").get_by_text("identity.json").wait_for()
            rows = {name: measure(page) for name in ("the first", "the next")}
        finally:
            server.end()
    print("| run | first point of the chart | finished | name in its answer |\n|---|---|---|---|")
    for name, (point, finished, answer) in rows.items():
        print(f"| {name} | {point:.0f} s | {finished:.0f} s | {answer:.1f} s |")


if __name__ == "__main__":
    main()
