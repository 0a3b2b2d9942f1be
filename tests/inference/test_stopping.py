"""Stop cuts the connection at once, wherever the answer is; the server's side is in ``test_server.py``."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.chat import ChatProcess, Stop
from workbench.chat_server import ChatServer
from workbench.errors import WorkbenchError

QUESTION = [{"role": "user", "content": "hi"}]


@pytest.fixture
def chat(settings):
    """A chat whose server sends the pieces that were asked for, then nothing for as long as somebody listens."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()
            for piece in body["messages"][0]["content"].split():
                choice = {"delta": {"content": piece}, "finish_reason": None}
                self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
            left.wait(0 if "end" in body["model"] else 600)

        def log_message(self, *_):
            pass

    left = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    process = SimpleNamespace(poll=lambda: None, kill=lambda: None, wait=lambda *_: None)
    chat = ChatProcess(settings)
    chat._server = ChatServer(process, "run", "right", Path(), server.server_port)
    yield chat
    left.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("words", ["one two", ""])
def test_stop_ends_an_answer_that_nothing_comes_of(chat, words):
    messages = [{"role": "user", "content": words}]
    stop, began = Stop(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    *_, last = chat.replies("slow", messages, stop=stop)
    assert (last.text, last.finish_reason) == (words.replace(" ", ""), "stopped")
    assert time.monotonic() - began < 60  # not the ten minutes that the server takes


def test_stop_before_the_beginning_ends_it_too(chat):
    stop = Stop()
    stop.set()
    *_, last = chat.replies("slow", QUESTION, stop=stop)
    assert last.finish_reason == "stopped"


def test_an_answer_that_was_not_stopped_ends_as_it_does(chat):
    stop = Stop()
    assert [reply.text for reply in chat.replies("end", QUESTION, stop=stop)] == ["hi"]
    stop.set()  # too late: nothing happens


def test_a_failure_that_nobody_asked_for_is_a_sentence(chat):
    chat._server.port = 1
    with pytest.raises(WorkbenchError, match="stopped answering"):
        list(chat.replies("slow", QUESTION, stop=Stop()))
