"""The HTTP side, with a fake engine."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from workbench.errors import WorkbenchError
from workbench.inference.server import build_server

TOKEN = {"Authorization": "Bearer right"}


class FakeEngine:
    """Answers with the model's name and the last message, in two pieces."""

    def stream(self, name, messages, sampling):
        if messages[-1]["content"] == "too long":
            raise WorkbenchError("The conversation is too long.")
        yield f"{name}: "
        yield messages[-1]["content"] * min(2, sampling.max_tokens)


@pytest.fixture
def client():
    return TestClient(build_server(FakeEngine(), "right"))


def ask(client, text="hi", headers=TOKEN, **changes):
    body = {"model": "tuned", "messages": [{"role": "user", "content": text}], **changes}
    return client.post("/v1/chat/completions", json=body, headers=headers)


def test_an_answer_has_the_shape_of_the_openai_api(client):
    body = ask(client, max_tokens=1).json()
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "tuned: hi"}
    assert body["choices"][0]["finish_reason"] == "stop"


def test_a_stream_sends_pieces_and_ends_with_done(client):
    lines = [line for line in ask(client, stream=True, model="base").text.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [
        "base: ",
        "hihi",
        None,
    ]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer é"}]
)
def test_without_the_token_nobody_gets_an_answer(client, headers):
    encoded = {key: value.encode() for key, value in headers.items()}
    assert ask(client, headers=encoded).status_code == 401
    assert client.get("/v1/models", headers=encoded).status_code == 401


def test_models_are_base_and_tuned(client):
    models = client.get("/v1/models", headers=TOKEN).json()["data"]
    assert [model["id"] for model in models] == ["base", "tuned"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_conversation_that_is_too_long_is_a_sentence(client, stream):
    response = ask(client, "too long", stream=stream)
    assert "The conversation is too long." in response.text


@pytest.mark.parametrize(
    "changes", [{"model": "other"}, {"messages": []}, {"temperature": -1}, {"max_tokens": 0}]
)
def test_a_wrong_request_is_refused(client, changes):
    assert ask(client, **changes).status_code == 422
