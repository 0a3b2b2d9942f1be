"""The chat process before its models are there: who waits, who gives up, and what it makes way for."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.made_runs import make_run
from tests.waiting import wait_until
from workbench.chat import ChatProcess, Stop
from workbench.chat_server import ChatServer, chat_log_path
from workbench.errors import WorkbenchError
from workbench.runs.supervisor import Supervisor
from workbench.services import Services

FAKE = ("-m", "tests.fake_trainer")


@pytest.fixture
def services(settings):
    """An empty workspace, with a trainer that only plays."""
    services = Services.for_workspace(settings)
    services = replace(services, supervisor=Supervisor(settings, services.runs, trainer=FAKE))
    yield services
    services.chat.close()
    if active := services.supervisor.active_run():
        services.supervisor.kill(active)


@pytest.fixture
def run(services):
    """A run with a folder for its model, which is never read."""
    run = make_run(services.runs)
    run.model_dir.mkdir()
    return run


def while_loading(code, tmp_path, monkeypatch):
    """Let a chat process that starts from now on do something before it has torch."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        "def hook(event, args):\n"
        f"    if event == 'import' and args[0] == 'torch': {code}\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.fixture
def loads_for_ever(tmp_path, monkeypatch):
    while_loading("time.sleep(600)", tmp_path, monkeypatch)


@contextmanager
def opening(services, run, stop=None):
    """Load in the background; gives the list that will have the error, once the process is there."""
    errors = []

    def use():
        try:
            with services.chat_with(run, stop):
                pass
        except WorkbenchError as error:
            errors.append(str(error))

    thread = threading.Thread(target=use)
    thread.start()
    wait_until(lambda: services.chat._server)
    yield errors
    thread.join(10)
    assert not thread.is_alive()


def test_a_process_that_loads_is_ended_at_once(services, run, loads_for_ever):
    with opening(services, run) as errors:
        process = services.chat._server.process
        assert services.chat.run_id == ""
        services.close_helpers()
        assert process.poll() is not None
    assert "needs the memory" in errors[0]


def test_stop_ends_the_loading_unless_another_page_waits_for_it(services, run, loads_for_ever):
    chat = services.chat
    with opening(services, run) as first, opening(services, run) as second:
        process = chat._server.process
        wait_until(lambda: chat.users == 2)
        chat.stop_loading()
        assert process.poll() is None
        chat.close()
        wait_until(lambda: chat.users == 1 and chat._server)  # the other page loads them itself
        process = chat._server.process
        chat.stop_loading()
        assert process.poll() is not None
    assert len(first + second) == 2


def test_what_a_library_prints_while_it_loads_goes_to_the_log(services, run, tmp_path, monkeypatch):
    while_loading("print('Warning: noise'); raise ImportError('no torch')", tmp_path, monkeypatch)
    with pytest.raises(WorkbenchError, match="could not be loaded: ImportError: no torch"):
        services.chat.open(run)
    assert "Warning: noise" in chat_log_path(services.settings).read_text()


def test_another_runs_models_wait_until_who_asks_has_the_answer(services, run):
    loaded = []
    chat = SimpleNamespace(open=lambda run: loaded.append(run.id))
    process = ChatProcess(services.settings)
    process.open = chat.open
    other, stop = replace(run, id="other"), Stop()
    with ThreadPoolExecutor(2) as pool:

        def use(wanted, stop=None):
            with process.using(wanted, stop):
                return list(loaded)

        with process.using(run), process.using(run):
            waits, gives_up = pool.submit(use, other), pool.submit(use, other, stop)
            stop.set()
            with pytest.raises(WorkbenchError, match="Stopped"):
                gives_up.result(5)
            assert not waits.done()
        assert waits.result(5) == [run.id, run.id, "other"]


def test_starting_a_run_here_closes_the_chat_before(services, run, alpaca_file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    services.chat._server = ChatServer(child, run.id, "token", Path(), port=1)
    assert services.chat.run_id == run.id
    data = services.choose_data({services.datasets.add(alpaca_file, alpaca_file.name).id: 1})
    services.start(services.plan(services.configure(None, {}), data), data, "hang", force=True)
    assert child.poll() is not None
    assert services.chat.run_id == ""


def test_a_run_that_another_process_starts_ends_the_loading(services, run, loads_for_ever):
    with opening(services, run) as errors:
        elsewhere = Supervisor(services.settings, services.runs, trainer=FAKE)
        elsewhere.start(services.runs.create(run.config, run.data, "hang", {}, None))
    assert "A run began to train" in errors[0]
    assert services.chat.why_gone.startswith("A run began to train")
