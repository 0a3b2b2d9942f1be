"""A real server and a real browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from workbench.config import STARTER_MODEL
from workbench.services import Services
from workbench.settings import PROJECT_DIR, Settings

SCREENSHOTS_DIR = Path(__file__).parent / "screenshots"
CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
CHROMIUM_FLAGS = [
    "--no-sandbox",  # Chromium refuses to start as root otherwise
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
STARTUP_SECONDS = 60
TRAINING_SECONDS = 150
TINY = {
    "model": "tests/tiny",
    "max_steps": 4,
    "keep_general": False,
    "precision": "fp32",
    "evaluate_after": 0,
}


class Server:
    """The workbench in a process of its own, which can be ended and started again."""

    def __init__(self, home: Path, log_path: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.home_dir, self._log_path = home, log_path
        self._process = None

    def start(self) -> None:
        environment = os.environ | {"WORKBENCH_HOME": str(self.home_dir)}
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(PROJECT_DIR / "app.py"), "--port", str(self.port)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + STARTUP_SECONDS
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, self._log_path.read_text()
                time.sleep(0.2)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        pytest.skip("there is no Chromium on this machine (Debian's package is called chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)  # other programs may keep the computer busy

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


def serve(home_dir, model_dir):
    """Start a server whose workspace has the tiny model, as ``tests/tiny`` and in the starter's place."""
    for name in ("tests--tiny", STARTER_MODEL):
        shutil.copytree(model_dir, home_dir / "models" / name)
    server = Server(home_dir, home_dir / "server.log")
    server.start()
    return server


def train_counting(home_dir, name, **values):
    """Train the tiny model for real in a workspace, on 20 rows."""
    path = home_dir / "counting.json"
    rows = [{"instruction": f"After {n}?", "output": f"{n + 1} comes next."} for n in range(20)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    services = Services.for_workspace(Settings(home_dir=home_dir))
    values = TINY | values
    data = services.choose_data({services.datasets.add(path, path.name).id: 1})
    run = services.start(services.plan(services.configure(None, values), data), data, name)
    deadline = time.monotonic() + TRAINING_SECONDS
    while services.supervisor.summary(run).is_active:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    return run


def open_page(browser, server):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(30_000)
    page.goto(server.url)
    # A browser that was never here shows the first sample, once all that begins with the page has begun.
    page.locator("#data-summary").get_by_text("identity.json").wait_for()
    return page


@pytest.fixture(scope="session")
def server(tmp_path_factory, tiny_model_dir):
    """One for all tests that only look and add datasets; starting one takes seconds."""
    server = serve(tmp_path_factory.mktemp("shared-home"), tiny_model_dir)
    yield server
    server.end()


@pytest.fixture
def page(browser, server):
    """A browser that was never here before."""
    page = open_page(browser, server)
    yield page
    page.close()


@pytest.fixture
def own_server(tmp_path, tiny_model_dir):
    """For tests that train, or that end the server."""
    server = serve(tmp_path / "own-home", tiny_model_dir)
    yield server
    server.end()


@pytest.fixture
def own_page(browser, own_server):
    page = open_page(browser, own_server)
    yield page
    page.close()


@pytest.fixture
def screenshot():
    """Keep a picture of the page at both widths, for a person to look at."""
    SCREENSHOTS_DIR.mkdir(exist_ok=True)

    def take(page, name):
        for width in (800, 1280):
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(400)
            page.screenshot(path=SCREENSHOTS_DIR / f"{name}-{width}.png", full_page=True)

    return take
