"""The real chat process with a tiny tuned model."""

from __future__ import annotations

import json
import socket

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from workbench.errors import WorkbenchError
from workbench.inference.__main__ import listen
from workbench.models.rendering import load_tokenizer, prompt_ids
from workbench.services import Services
from workbench.settings import Settings

QUESTION = [{"role": "user", "content": "What comes after 3?"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_model_dir):
    """A workspace with one tuned model; trained once for all tests here."""
    home = tmp_path_factory.mktemp("home")
    data = home / "counting.json"
    rows = [{"instruction": f"What comes after {n}?", "output": f"{n + 1}"} for n in range(40)]
    data.write_text(json.dumps(rows), encoding="utf-8")
    services = Services.for_workspace(Settings(home_dir=home))
    values = {"model": str(tiny_model_dir), "max_steps": 20, "learning_rate": 1e-2}
    config = services.configure(None, values, allow_folder=True)
    chosen = services.choose_data({services.datasets.add(data, data.name).id: 1})
    run = services.start(services.plan(config, chosen, allow_folder=True), chosen, "tuned")
    assert services.supervisor.wait(run, 120)
    return home


@pytest.fixture
def services(home):
    services = Services.for_workspace(Settings(home_dir=home))
    yield services
    services.chat.close()


@pytest.fixture
def run(services):
    return services.runs.get("latest")


def greedy(model, tokenizer, count):
    ids = torch.tensor([prompt_ids(tokenizer, QUESTION)])
    answer = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)


def test_base_and_tuned_answer_as_plain_transformers_does(services, run, tiny_model_dir):
    services.chat.open(run)
    answers = {
        name: "".join(services.chat.stream(name, QUESTION, max_tokens=24))
        for name in ("tuned", "base", "tuned")
    }
    tokenizer = load_tokenizer(tiny_model_dir)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    assert answers["base"] == greedy(base, tokenizer, 24)  # the adapter is off
    tuned = PeftModel.from_pretrained(base, run.model_dir).eval()
    assert answers["tuned"] == greedy(tuned, tokenizer, 24)
    assert answers["base"] != answers["tuned"]


def test_the_process_ends_and_a_second_open_costs_nothing(services, run):
    services.chat.open(run)
    process = services.chat._process
    services.chat.open(run)
    assert services.chat._process is process
    services.chat.close()
    assert process.poll() is not None
    assert services.chat.run_id == ""


def test_too_long_a_conversation_is_a_sentence(services, run):
    services.chat.open(run)
    with pytest.raises(WorkbenchError, match="longer than the 512 this model can read"):
        list(services.chat.stream("tuned", [{"role": "user", "content": "x" * 600}]))


def test_a_crashed_process_is_a_sentence_and_opens_again(services, run):
    services.chat.open(run)
    services.chat._process.kill()
    services.chat._process.wait()
    with pytest.raises(WorkbenchError, match="stopped answering"):
        list(services.chat.stream("tuned", QUESTION))
    services.chat.open(run)
    assert list(services.chat.stream("tuned", QUESTION, max_tokens=4)) is not None


def test_a_run_without_a_model_is_a_sentence(services, run):
    hidden = run.model_dir.rename(run.directory / "elsewhere")
    with pytest.raises(WorkbenchError, match="no model to chat with"):
        services.chat.open(run)
    hidden.rename(run.model_dir)


def test_a_model_that_cannot_be_loaded_is_a_sentence(services, run):
    path = run.model_dir / "adapter_model.safetensors"
    good = path.read_bytes()
    path.write_bytes(b"broken")
    with pytest.raises(WorkbenchError, match="could not be loaded"):
        services.chat.open(run)
    path.write_bytes(good)


def test_the_chat_waits_while_a_run_trains(services, run):
    services.runs.create(
        run.config.model_copy(update={"max_steps": 100_000}), run.data, "b", {}, None
    )
    busy = services.runs.get("latest")
    services.supervisor.start(busy)
    with pytest.raises(WorkbenchError, match="still training"):
        services.open_chat(run)
    services.supervisor.kill(busy)


def test_who_is_told_the_port_can_connect_at_once():
    with (
        listen() as listener,
        socket.create_connection(listener.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == listener.getsockname()
