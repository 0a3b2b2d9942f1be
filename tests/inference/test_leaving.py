"""A chat process whose models are fakes: it leaves for a run that trains, and the terminal says what happened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.inference.asking import stream
from tests.made_runs import make_run
from workbench.chat import ChatProcess
from workbench.chat_server import RUN_TRAINS, chat_log_path
from workbench.cli import main
from workbench.cli_chat import converse
from workbench.errors import WorkbenchError
from workbench.runs.supervisor import Supervisor

QUESTION = [{"role": "user", "content": "hi"}]
# Python reads it at its beginning; in the chat process only, it puts fakes in the place of what needs torch.
FAKE_MODELS = """
import json, sys, time, types
if "workbench.inference" in sys.orig_argv:
    print("noise before all")
    engine = types.ModuleType("workbench.inference.engine")
    server = types.ModuleType("workbench.inference.server")

    class Gate:
        def __init__(self):
            self.last = time.monotonic()

        idle_seconds = property(lambda self: time.monotonic() - self.last)

        async def __call__(self, scope, receive, send):
            if scope["type"] != "http":
                return
            print("noise while it answers")
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for text, reason in (("Hello", None), (" you", None), (None, "length")):
                choice = {"delta": {"content": text}, "finish_reason": reason}
                body = f"data: {json.dumps({'choices': [choice]})}\\n\\n".encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            self.last = time.monotonic()

    engine.Engine = lambda run, base_dir: print("noise while it loads")
    server.build_server = lambda *_: Gate()
    sys.modules |= {module.__name__: module for module in (engine, server)}
"""


@pytest.fixture
def run(services, tmp_path, monkeypatch):
    """A run whose models are fakes, on a base that is a folder."""
    (tmp_path / "sitecustomize.py").write_text(FAKE_MODELS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    base_dir = tmp_path / "base"
    base_dir.mkdir()
    for name in ("config.json", "model.safetensors"):
        (base_dir / name).write_text("{}")
    run = make_run(services.runs, values={"model": str(base_dir)})
    run.model_dir.mkdir()
    return run


@pytest.fixture
def train(services, run):
    """Begin to train a run in another process of the same workspace."""
    other = Supervisor(services.settings, services.runs, trainer=("-m", "tests.fake_trainer"))
    yield lambda: other.start(services.runs.create(run.config, run.data, "hang", {}, None))
    if busy := other.active_run():
        other.kill(busy)


def test_what_is_printed_while_it_loads_and_answers_is_no_answer(services, run):
    with services.chat_with(run) as chat:
        assert list(stream(chat, "tuned", QUESTION)) == ["Hello", " you"]
        assert (chat.run_id, chat.users) == (run.id, 1)
    log = chat_log_path(services.settings).read_text()
    assert "noise while it loads" in log
    assert "noise while it answers" in log


def test_the_models_leave_for_a_run_that_another_process_started(services, run, train):
    services.chat.open(run)
    process = services.chat._server.process
    train()
    assert process.wait(20) == RUN_TRAINS
    assert services.chat.why_gone.startswith("A run began to train")
    with pytest.raises(WorkbenchError, match=r"stopped answering\. A run began to train"):
        list(stream(services.chat, "tuned", QUESTION))
    with pytest.raises(WorkbenchError, match="still training"), services.chat_with(run):
        pass


def test_a_run_that_begins_ends_workbench_serve_with_a_sentence(run, train, capsys, monkeypatch):
    monkeypatch.setattr("workbench.cli_serve.client_code", lambda *_: str(train()))
    assert main(["serve", run.id, "--port", "0"]) == 2
    assert "The server ended by itself. A run began to train" in capsys.readouterr().err


def test_the_terminal_does_not_load_while_a_run_trains(services, run, train, capsys):
    train()
    assert main(["chat", run.id, "--prompt", "hi"]) == 2
    assert "still training" in capsys.readouterr().err
    assert not chat_log_path(services.settings).exists()


def test_the_terminal_says_that_an_answer_was_cut(run, capsys):
    assert main(["chat", run.id, "--prompt", "hi"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("Hello you\n", "The answer was cut at its longest length.\n")
    assert main(["chat", run.id, "--prompt", "hi", "--json"]) == 0
    assert '"finish_reason": "length"' in capsys.readouterr().out


def test_a_conversation_in_the_terminal_goes_on_after_a_long_pause(
    services, run, capsys, monkeypatch
):
    chat = ChatProcess(services.settings, idle_seconds=2)
    services = replace(services, chat=chat)
    questions = iter(["one", "two", ""])

    def type_after_a_pause(_):
        assert chat._server.process.wait(20) == 0
        return next(questions)

    monkeypatch.setattr("builtins.input", type_after_a_pause)
    converse(services, run, "tuned", "")
    told = capsys.readouterr()
    assert told.out.count("Hello you") == 2
    assert told.err.count("Nobody asked for a while") == 2
