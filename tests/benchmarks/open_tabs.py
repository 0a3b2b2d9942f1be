"""How long does each tab take to open in a workspace with many runs? In a real browser; prints a Markdown table.

    python -m tests.benchmarks.open_tabs --runs 500

The page is opened anew for each round. A tab is open when what it shows first is there; "again" is coming back to it.
Before each click the page is left alone for some seconds, as by a person who looks at it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.benchmarks.many_runs import fill
from tests.browser.conftest import CHROMIUM, CHROMIUM_FLAGS, Server
from workbench.services import Services
from workbench.settings import Settings

SHOWN = {  # by tab: what is waited for, and a text that it has
    "2. Configure": ("#configure-plan", "steps"),
    "3. Train": ("#train-status", "run 0"),
    "4. Playground": ("#playground-question", ""),
    "5. Evaluate & export": ("#evaluate-run", ""),
    "6. Runs": ("#runs-table", "run 0"),
    "1. Data": ("#data-summary", "identity.json"),
}


PAUSE_MILLISECONDS = 3_000


def seconds_to_open(page: Page, name: str) -> float:
    """Click on a tab and wait for what it shows."""
    page.wait_for_timeout(PAUSE_MILLISECONDS)
    selector, text = SHOWN[name]
    began = time.perf_counter()
    page.get_by_role("tab", name=name).click()
    found = page.locator(selector)
    found = found.get_by_text(text) if text else found
    found.filter(visible=True).first.wait_for()
    return time.perf_counter() - began


def measure(browser: Any, url: str) -> dict[str, tuple[float, float]]:
    """Return for each tab how long it takes the first time, and again."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(url)
    page.locator("#data-summary").get_by_text("identity.json").wait_for()
    first = {name: seconds_to_open(page, name) for name in SHOWN}
    again = {name: seconds_to_open(page, name) for name in SHOWN}
    page.close()
    return {name: (first[name], again[name]) for name in SHOWN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home, models_dir = Path(folder), Settings.from_environment().models_dir
        if models_dir.is_dir():  # else the page fetches the starter model meanwhile
            (home / models_dir.name).symlink_to(models_dir)
        fill(Services.for_workspace(Settings(home_dir=home)), options.runs, options.steps)
        server = Server(home, home / "server.log")
        server.start()
        try:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            rounds = [measure(browser, server.url) for _ in range(options.rounds)]
        finally:
            server.end()
    print(f"{options.runs:,} runs, seconds, medians of {options.rounds} rounds\n")
    print("| tab | first | again |\n|---|---|---|")
    for name in sorted(SHOWN):
        first, again = (statistics.median(one[name][i] for one in rounds) for i in (0, 1))
        print(f"| {name} | {first:.2f} | {again:.2f} |")


if __name__ == "__main__":
    main()
