"""What chat process and web server hold after people who leave, stop, ask again and ask too much.

::

    .venv/bin/workbench models --download smollm2-135m-instruct
    .venv/bin/python -m tests.benchmarks.chat_memory [--pages 50]

With the starter model. It prints the memory (RSS) after each, and the processes that are left at the end: first of a
chat process alone, then of a web server whose page is opened in Chromium, asked, and closed at the first words of the
answer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import psutil
from playwright.sync_api import Browser, sync_playwright

from tests.benchmarks.chat_speed import make_run
from tests.browser.conftest import CHROMIUM, CHROMIUM_FLAGS, Server
from tests.inference.asking import stream
from workbench.chat import ChatProcess
from workbench.errors import WorkbenchError
from workbench.runs.store import Run
from workbench.settings import Settings
from workbench.ui.app import PAGES_REMEMBERED

QUESTION = [{"role": "user", "content": "Write a long story about a dog that learns to sail."}]
NEAR_LIMIT, TOO_LONG = 7_500, 10_000  # tokens; the starter model reads 8,192
WARM_PAGES = PAGES_REMEMBERED + 4  # from then on a page that is opened lets another one go
PATIENCE_SECONDS = 180
LEAVING_SECONDS = 15


def leave_early(chat: ChatProcess, count: int) -> None:
    """Open answers and leave each after its first token."""
    for number in range(count):
        answer = stream(chat, "base" if number % 2 else "tuned", QUESTION, max_tokens=400)
        next(answer)
        answer.close()


def ask_long(chat: ChatProcess, tokens: int) -> None:
    """Ask something of so many tokens: a short answer, or the sentence that refuses it."""
    words = [{"role": "user", "content": " dog" * tokens}]
    try:
        print(f"  {''.join(stream(chat, 'tuned', words, max_tokens=8))!r}")
    except WorkbenchError as error:
        print(f"  {error}")


def measure_child(settings: Settings, run: Run) -> None:
    """Measure a chat process that is asked directly."""
    chat = ChatProcess(settings)
    chat.open(run)
    assert chat._server is not None
    child = psutil.Process(chat._server.process.pid)
    before = 0

    def tell(what: str) -> None:
        nonlocal before
        "".join(stream(chat, "tuned", QUESTION, max_tokens=16))  # the line is empty again
        before = before or child.memory_info().rss
        print(f"{what}: {_memory(child, before)}", flush=True)

    for model in ("base", "tuned"):
        "".join(stream(chat, model, QUESTION, max_tokens=100))
    tell("After two answers")
    leave_early(chat, 50)
    tell("After 50 that were left at the first token")
    leave_early(chat, 20)
    tell("After 20 stops and repeats")
    ask_long(chat, TOO_LONG)
    tell(f"After {TOO_LONG:,} tokens")
    ask_long(chat, NEAR_LIMIT)
    tell(f"After {NEAR_LIMIT:,} tokens")
    print(f"Processes below it: {child.children()}")
    chat.close()
    print(f"It has ended: {not child.is_running()}")


def leave_pages(browser: Browser, server: Server, count: int) -> None:
    """Open the page, ask, and close it at the first words of the answer, one after the other."""
    for _ in range(count):
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_SECONDS * 1000)
        page.goto(server.url)
        page.locator("#data-summary").get_by_text("identity.json").wait_for()  # all has begun
        page.get_by_role("tab", name="4. Playground").click()
        box = page.locator("#playground-question textarea")
        box.fill(QUESTION[0]["content"])
        box.press("Enter")
        page.locator("#playground-tuned .bot.message").first.wait_for()
        page.close()


def measure_web_server(settings: Settings, pages: int) -> None:
    """Measure a web server and the chat process below it, over pages that are left."""
    server = Server(settings.home_dir, settings.home_dir / "server.log")
    below: list[psutil.Process] = []
    try:
        server.start()
        web = psutil.Process(server._process.pid)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            leave_pages(browser, server, WARM_PAGES)
            before = web.memory_info().rss
            print(f"The web server after {WARM_PAGES} pages: {_memory(web, before)}", flush=True)
            leave_pages(browser, server, pages)
            browser.close()
        print(f"After {pages} more that were left: {_memory(web, before)}")
        below = web.children(recursive=True)
        chats = [child for child in below if "workbench.inference" in child.cmdline()]
        print(f"Chat processes: {len(chats)}")
    finally:
        server.end()
    _, left = psutil.wait_procs(below, timeout=LEAVING_SECONDS)
    print(f"Processes left {LEAVING_SECONDS} seconds after it was killed: {left}")


def _memory(process: psutil.Process, before: int) -> str:
    now = process.memory_info().rss
    return f"{now / 1e6:,.0f} MB, {now / before - 1:+.1%}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pages", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings, run, _ = make_run(Path(folder) / "home", Settings.from_environment().models_dir)
        measure_child(settings, run)
        measure_web_server(settings, options.pages)


if __name__ == "__main__":
    main()
