"""The HTTP side, with a fake engine."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient

from tests.waiting import wait_until
from workbench.errors import WorkbenchError
from workbench.inference.__main__ import listen
from workbench.inference.answer import Asked, Outcome
from workbench.inference.context import Prompt
from workbench.inference.engine import UnknownModelError
from workbench.inference.gate import BODY_LIMIT_BYTES
from workbench.inference.server import build_server
from workbench.inference.writer import MOST_AT_ONCE

TOKEN = {"Authorization": "Bearer right"}


class FakeEngine:
    """Answers with the model's name and what it was asked, word by word; a word is a token."""

    run = SimpleNamespace(created=1.5)
    model_names = ("base", "tuned", "step-10")

    def find(self, name, strength=None):
        if name not in self.model_names:
            raise UnknownModelError(f"There is no model {name!r}.")
        if strength is not None:
            raise WorkbenchError("The strength cannot be changed.")
        return Asked(name, Path(name), 1.0)

    def chat_prompt(self, messages, max_tokens):
        if messages[-1]["content"] == "too long":
            raise WorkbenchError("The conversation is too long.", "Write less.")
        note = "Left out." if len(messages) > 2 else ""
        return Prompt(messages[-1]["content"].split(), max_tokens, note)

    def text_prompt(self, text, max_tokens):
        return Prompt(text.split(), max_tokens)

    def text_of(self, prompt):
        return " ".join(prompt.ids)

    def begin(self, question):
        asked, prompt, show = question.asked, question.prompt, question.show
        if "break" in prompt.ids:
            raise RuntimeError("out of memory")
        words = [f"{asked.name}:", *prompt.ids]
        for word in words[: prompt.max_tokens]:
            show(f"{word} ")
        reason = "length" if len(words) > prompt.max_tokens else "stop"
        return SimpleNamespace(is_over=True, outcome=Outcome(reason, len(words)))


@pytest.fixture
def client():
    return TestClient(
        build_server(FakeEngine(), "right", ThreadPoolExecutor(1)), raise_server_exceptions=False
    )


def ask(client, text="hi there", headers=TOKEN, path="chat/completions", **changes):
    body = {"model": "tuned", **changes}
    body |= {"messages": [{"role": "user", "content": text}]} if "messages" not in body else {}
    return client.post(f"/v1/{path}", json=body | {"prompt": text}, headers=headers)


def chunks(response):
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_an_answer_has_the_shape_of_the_openai_api(client):
    body = ask(client).json()
    assert body["object"] == "chat.completion"
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "tuned: hi there "}
    assert choice["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert "workbench_note" not in body


def test_a_completion_has_the_shape_of_the_openai_api(client):
    body = ask(client, path="completions", max_tokens=2).json()
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == "tuned: hi "
    assert body["choices"][0]["finish_reason"] == "length"
    pieces = [
        chunk["choices"][0]["text"]
        for chunk in chunks(ask(client, path="completions", stream=True))
    ]
    assert "".join(pieces) == "tuned: hi there "


def test_a_stream_sends_pieces_its_end_and_the_counts_when_asked(client):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *told, usage = chunks(ask(client, model="base", **options))
    deltas = [chunk["choices"][0]["delta"] for chunk in told]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta.get("content") for delta in deltas[1:]] == ["base: ", "hi ", "there ", None]
    assert [chunk["choices"][0]["finish_reason"] for chunk in told[-2:]] == [None, "stop"]
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 5)
    assert len({chunk["id"] for chunk in told}) == 1
    assert all("usage" not in chunk for chunk in chunks(ask(client, stream=True)))


def test_what_was_left_out_is_noted(client):
    turns = [{"role": role, "content": "a"} for role in ("user", "assistant", "user")]
    assert ask(client, messages=turns).json()["workbench_note"] == "Left out."
    assert chunks(ask(client, messages=turns, stream=True))[0]["workbench_note"] == "Left out."


def test_the_exact_prompt_is_shown_without_an_answer(client):
    body = ask(client, path="workbench/prompt").json()
    assert body == {"text": "hi there", "tokens": 2, "workbench_note": ""}


def test_parts_of_text_and_the_newer_names_are_understood(client):
    parts = [{"type": "text", "text": "hi "}, {"type": "text", "text": "you"}]
    turns = [{"role": "developer", "content": "x"}, {"role": "user", "content": parts}]
    body = ask(client, messages=turns, max_completion_tokens=2).json()
    assert body["choices"][0]["message"]["content"] == "tuned: hi "


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é"}]
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/nothing", "/"])
def test_without_the_token_nobody_gets_an_answer(client, headers, path):
    encoded = {key: value.encode() for key, value in headers.items()}
    assert ask(client, headers=encoded).status_code == 401
    response = client.get(path, headers=encoded)
    assert response.status_code == 401
    assert response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1.evil.example", 403),
        ("http://127.0.0.1:7860", 200),
        ("http://localhost", 200),
    ],
)
def test_a_page_of_another_site_may_not_ask(client, origin, status):
    assert ask(client, headers=TOKEN | {"Origin": origin}).status_code == status


def test_a_body_over_the_limit_is_refused(client):
    assert ask(client, "x" * BODY_LIMIT_BYTES).status_code == 413
    endless = client.post(
        "/v1/chat/completions", content=iter([b"{}"]), headers=TOKEN
    )  # no Content-Length
    assert endless.status_code == 411


def test_the_models_are_those_of_the_run(client):
    models = client.get("/v1/models", headers=TOKEN).json()["data"]
    assert [model["id"] for model in models] == ["base", "tuned", "step-10"]
    assert client.get("/v1/models/step-10", headers=TOKEN).json()["id"] == "step-10"
    assert client.get("/v1/models/step-11", headers=TOKEN).status_code == 404


@pytest.mark.parametrize("stream", [True, False])
def test_a_conversation_that_is_too_long_is_a_sentence(client, stream):
    response = ask(client, "too long", stream=stream)
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "The conversation is too long. Write less."


def test_a_failure_while_writing_is_told(client):
    response = ask(client, "break")
    assert response.status_code == 500
    assert "out of memory" in response.json()["error"]["message"]
    assert "out of memory" in chunks(ask(client, "break", stream=True))[-1]["error"]["message"]
    assert ask(client).status_code == 200  # it goes on


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"model": "other"}, 404, "There is no model 'other'."),
        ({"strength": 0.5}, 400, "The strength cannot be changed."),
        ({"messages": []}, 400, "messages: "),
        ({"temperature": -1}, 400, "temperature: "),
        ({"max_tokens": 0}, 400, "max_tokens: "),
        ({"n": 2}, 400, "n: "),
        ({"stop": ["a"] * 5}, 400, "stop: "),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages."),
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(client, changes, status, words):
    response = ask(client, **changes)
    assert response.status_code == status
    assert words in response.json()["error"]["message"]


class SlowAnswer:
    """Counts until it is stopped; one that was asked to break does, at its third word."""

    outcome = Outcome("stop", 0)

    def __init__(self, question, stopped):
        self.question, self.stopped = question, stopped
        self.written = 0
        self.is_over = question.is_stopped()

    def choose(self, logits):
        if self.written == 2 and "break" in self.question.prompt.ids:
            raise WorkbenchError("Its training has diverged.")
        self.question.show(f"{self.written} ")
        self.written += 1
        if self.question.is_stopped():
            self.stopped.set()
        self.is_over = self.question.is_stopped() or self.written == self.question.prompt.max_tokens


class SlowEngine(FakeEngine):
    """Writes words until it is stopped, one each to all answers in turn."""

    has_room = True

    def __init__(self):
        self.running, self.most_running, self.most_together = 0, 0, 0
        self.stopped = threading.Event()

    def begin(self, question):
        return SlowAnswer(question, self.stopped)

    def fits_beside(self, question):
        return self.has_room

    def next_logits(self, answers):
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.most_together = max(len(answers), self.most_together)
        time.sleep(0.01)
        self.running -= 1
        return [None] * len(answers)


@pytest.mark.parametrize(("has_room", "together"), [(True, MOST_AT_ONCE), (False, 1)])
def test_as_many_as_there_is_room_for_are_written_together_and_each_gets_its_own(
    has_room, together
):
    engine = SlowEngine()
    engine.has_room = has_room
    client = TestClient(build_server(engine, "right", ThreadPoolExecutor(1)))
    with client:
        answers = {}

        def fill(count):
            answers[count] = ask(client, max_tokens=count).json()["choices"][0]["message"][
                "content"
            ]

        threads = [threading.Thread(target=fill, args=(count,)) for count in range(13, 23)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert engine.most_running == 1
    assert engine.most_together == together
    assert len(answers) == 10
    assert all(len(answer.split()) == count for count, answer in answers.items())


def test_a_model_that_fails_ends_all_that_are_written_and_none_that_come_later():
    engine, fail = SlowEngine(), threading.Event()
    next_logits = engine.next_logits

    def breaks(answers):
        if fail.is_set() and len(answers) == 2:
            raise RuntimeError("out of memory")
        return next_logits(answers)

    engine.next_logits = breaks
    client = TestClient(
        build_server(engine, "right", ThreadPoolExecutor(1)), raise_server_exceptions=False
    )
    with client, ThreadPoolExecutor(2) as asking:
        found = [asking.submit(ask, client, max_tokens=200) for _ in range(2)]
        wait_until(lambda: engine.most_together == 2)
        fail.set()
        responses = [one.result() for one in found]
        assert [response.status_code for response in responses] == [500, 500]
        assert "out of memory" in responses[1].json()["error"]["message"]
        assert ask(client, max_tokens=3).status_code == 200


def test_an_answer_that_fails_ends_alone():
    engine = SlowEngine()
    with (
        TestClient(build_server(engine, "right", ThreadPoolExecutor(1))) as client,
        ThreadPoolExecutor(2) as asking,
    ):
        good = asking.submit(ask, client, max_tokens=100)
        bad = asking.submit(ask, client, "break", max_tokens=100)
        assert bad.result().status_code == 400
        assert "diverged" in bad.result().json()["error"]["message"]
        words = good.result().json()["choices"][0]["message"]["content"].split()
    assert engine.most_together == 2
    assert words == [str(number) for number in range(100)]


@pytest.fixture
def slow():
    """A real server with a slow engine, and its address."""
    engine = SlowEngine()
    config = uvicorn.Config(
        build_server(engine, "right", ThreadPoolExecutor(1)), log_level="warning"
    )
    server = uvicorn.Server(config)
    with listen() as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield engine, f"http://127.0.0.1:{listener.getsockname()[1]}/v1/chat/completions"
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("stream", [True, False])
def test_who_leaves_stops_the_writing(slow, stream):
    engine, url = slow
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "tuned", "messages": messages, "max_tokens": 10**6, "stream": stream}
    with httpx2.Client(headers=TOKEN, timeout=0.5) as client:
        if stream:
            with client.stream("POST", url, json=body) as response:
                next(response.iter_lines())
        else:
            with pytest.raises(httpx2.ReadTimeout):
                client.post(url, json=body)
    assert engine.stopped.wait(1)


def test_who_leaves_the_line_is_not_answered(slow):
    engine, url = slow
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "tuned", "messages": messages, "max_tokens": 10**6, "stream": True}
    with httpx2.Client(headers=TOKEN) as client:
        with client.stream("POST", url, json=body) as first:
            next(first.iter_lines())
            for _ in range(50):  # opened and abandoned
                with client.stream("POST", url, json=body) as waiting:
                    next(waiting.iter_lines())
        answer = client.post(url, json=body | {"max_tokens": 3, "stream": False}, timeout=5).json()
    assert answer["choices"][0]["message"]["content"] == "0 1 2 "
    assert engine.most_running == 1


def test_it_knows_for_how_long_nobody_asked():
    gate = build_server(FakeEngine(), "right", ThreadPoolExecutor(1))
    time.sleep(0.1)
    waited = gate.idle_seconds
    assert waited >= 0.1
    TestClient(gate).get("/v1/models")  # without the token: that is nobody
    assert gate.idle_seconds > waited
    TestClient(gate).get("/v1/models", headers=TOKEN)
    assert gate.idle_seconds < waited
