"""``workbench serve`` as a person runs it, asked by the official ``openai`` client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import openai
import psutil
import pytest

from workbench.chat_server import client_code
from workbench.cli import main
from workbench.cli_serve import check_host
from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.settings import Settings

MESSAGES = [{"role": "user", "content": "What comes after 3?"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_model_dir):
    """A run of full training with two checkpoints, served; what the command printed, and its process."""
    home = tmp_path_factory.mktemp("served")
    data = home / "counting.json"
    rows = [{"instruction": f"What comes after {n}?", "output": f"{n + 1}"} for n in range(40)]
    data.write_text(json.dumps(rows), encoding="utf-8")
    services = Services.for_workspace(Settings(home_dir=home))
    values = {
        "model": str(tiny_model_dir),
        "max_steps": 6,
        "save_steps": 3,
        "eval_steps": 3,
        "checkpoints_kept": 2,
    }
    values |= {"evaluate_after": 0, "keep_general": False, "method": "full", "learning_rate": 1e-2}
    config = services.configure(None, values, allow_folder=True)
    chosen = services.choose_data({services.datasets.add(data, data.name).id: 1})
    run = services.start(services.plan(config, chosen), chosen, "tuned")
    assert services.supervisor.wait(run, 120)
    environment = os.environ | {"WORKBENCH_HOME": str(home), "WORKBENCH_API_KEY": "chosen"}
    program = "import sys, workbench.cli; sys.exit(workbench.cli.main())"
    command = [sys.executable, "-c", program, "serve", "latest", "--port", "0", "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    yield json.loads(process.stdout.readline()), process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def client(served):
    told, _ = served
    return openai.OpenAI(base_url=told["base_url"], api_key=told["api_key"], max_retries=0)


def ask(client, model="tuned", **changes):
    return client.chat.completions.create(
        model=model, messages=MESSAGES, **{"max_tokens": 12} | changes
    )


def test_the_command_tells_what_is_needed(served, client):
    told, _ = served
    assert told["api_key"] == "chosen"
    assert told["models"] == ["base", "tuned", "step-3", "step-6"]
    assert [model.id for model in client.models.list()] == told["models"]


def test_an_answer_with_real_counts(client):
    answer = ask(client)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert (
        answer.usage.prompt_tokens == len("user What comes after 3? assistant ") + 3
    )  # bytes, marks
    assert answer.usage.completion_tokens <= 12
    assert choice.finish_reason == ("length" if answer.usage.completion_tokens == 12 else "stop")
    cut = ask(client, "base", max_tokens=3)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 3)


def test_a_stream_is_the_same_answer(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_checkpoints_of_whole_models_are_served(client):
    answers = {
        name: ask(client, name, temperature=1, seed=3, max_tokens=80).choices[0].message.content
        for name in ("base", "step-3", "step-6", "tuned")
    }
    assert answers["step-6"] == answers["tuned"]
    assert len({answers["base"], answers["step-3"], answers["tuned"]}) == 3


def test_a_stop_sequence_ends_the_answer(client):
    text = ask(client, "base").choices[0].message.content
    stop = text[4:6]
    answer = ask(client, "base", stop=[stop])
    assert answer.choices[0].message.content == text[: text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_a_plain_completion(client):
    answer = client.completions.create(model="base", prompt="One two", max_tokens=5)
    assert answer.usage.prompt_tokens == len("One two")
    assert answer.choices[0].finish_reason == "length"
    pieces = client.completions.create(model="base", prompt="One two", max_tokens=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in pieces) == answer.choices[0].text


def test_mistakes_are_the_errors_of_the_client(client, served):
    with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-5'"):
        ask(client, "gpt-5")
    with pytest.raises(openai.BadRequestError, match="strength of this method"):
        ask(client, extra_body={"strength": 0.5})
    with pytest.raises(openai.BadRequestError, match="temperature"):
        ask(client, temperature=3)
    stranger = openai.OpenAI(base_url=served[0]["base_url"], api_key="guessed", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        ask(stranger)


def test_leaving_a_stream_stops_it(client):
    began = time.monotonic()
    for _ in range(20):  # each would take seconds
        stream = ask(client, "base", stream=True, max_tokens=450)
        next(iter(stream))
        stream.close()
    ask(client, "base", max_tokens=1)
    assert time.monotonic() - began < 20


def test_ending_the_command_ends_the_child(served):
    _, process = served
    (child,) = psutil.Process(process.pid).children()
    assert child.is_running()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert psutil.wait_procs([child], timeout=10)[0]


def test_a_host_beyond_this_machine_needs_a_key_of_ones_own(tmp_path):
    with pytest.raises(WorkbenchError, match="everyone on your network"):
        check_host("0.0.0.0", Settings(home_dir=tmp_path))
    check_host("0.0.0.0", Settings(home_dir=tmp_path, api_key="chosen"))
    check_host("127.0.0.1", Settings(home_dir=tmp_path))


def test_the_key_is_read_from_the_environment_and_not_shown(monkeypatch):
    monkeypatch.setenv("WORKBENCH_API_KEY", "very secret")
    settings = Settings.from_environment()
    assert settings.api_key == "very secret"
    assert "very secret" not in repr(settings)


def test_serving_an_unknown_run_is_a_sentence(settings, capsys):
    assert main(["serve", "nope"]) == 2
    assert "There is no run 'nope'" in capsys.readouterr().err


def test_the_three_lines_are_python():
    code = client_code("http://127.0.0.1:8000/v1", "key")
    assert len(code.splitlines()) == 3
    compile(code, "shown", "exec")
