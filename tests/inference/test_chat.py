"""The real chat process with a tiny tuned model."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import gradio as gr
import openai
import psutil
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from tests.inference.asking import stream, write
from tests.made_runs import make_run
from workbench.chat import ChatProcess, learned_model, served_models
from workbench.chat_server import RUN_GONE
from workbench.cli import main
from workbench.config import ANSWER_TOKENS
from workbench.deleting import delete_run
from workbench.errors import WorkbenchError
from workbench.inference import engine as engine_module
from workbench.inference.__main__ import listen
from workbench.inference.engine import Engine
from workbench.models.rendering import load_tokenizer, prompt_ids
from workbench.runs.strength import keep_strength
from workbench.services import Services
from workbench.settings import Settings
from workbench.ui.playground_settings import build_answer_settings
from workbench.ui.playground_talk import Talk, answers

QUESTION = [{"role": "user", "content": "What comes after 3?"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory, lively_model_dir):
    """A workspace with one tuned model and two checkpoints; trained once for all tests here."""
    home = tmp_path_factory.mktemp("home")
    data = home / "counting.json"
    rows = [{"instruction": f"What comes after {n}?", "output": f"{n + 1}"} for n in range(40)]
    data.write_text(json.dumps(rows), encoding="utf-8")
    services = Services.for_workspace(Settings(home_dir=home))
    values = {"model": str(lively_model_dir), "max_steps": 20, "learning_rate": 1e-2}
    values |= {"save_steps": 10, "eval_steps": 10, "checkpoints_kept": 2}
    values |= {"keep_general": False, "evaluate_after": 0, "precision": "fp32"}
    config = services.configure(None, values, allow_folder=True)
    chosen = services.choose_data({services.datasets.add(data, data.name).id: 1})
    run = services.start(services.plan(config, chosen), chosen, "tuned")
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


def process_of(chat):
    return chat._server.process


def ask(services, name, messages=QUESTION, **sampling):
    return "".join(stream(services.chat, name, messages, **{"max_tokens": 24} | sampling))


def plain(model, tokenizer, max_new_tokens=24, **choice):
    """Answer with plain transformers, greedy or with a seed."""
    ids = torch.tensor([prompt_ids(tokenizer, QUESTION)])
    torch.manual_seed(choice.pop("seed", 0))
    answer = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id, **choice,
    )  # fmt: skip
    return tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("choice", [{}, {"temperature": 0.9, "seed": 3, "top_k": 40}])
def test_every_model_answers_as_plain_transformers_does(services, run, lively_model_dir, choice):
    services.chat.open(run)
    names = ["tuned", "base", "step-10", "tuned", "step-20", "base"]
    answers = [ask(services, name, **choice) for name in names]
    tokenizer = load_tokenizer(lively_model_dir)
    expected = {}
    for name, directory in served_models(run).items():
        model = AutoModelForCausalLM.from_pretrained(lively_model_dir, dtype=torch.float32)
        model = PeftModel.from_pretrained(model, directory) if directory else model
        expected[name] = plain(model.eval(), tokenizer, do_sample=bool(choice), **choice)
    assert answers == [expected[name] for name in names]
    assert len({expected[name] for name in ("base", "step-10", "tuned")}) == 3


def answers_of_the_page(services, run):
    """Ask both models as a page does on which nothing was changed."""
    with gr.Blocks():
        settings = {name: field.value for name, field in build_answer_settings().items()}
    sides = {"left": "tuned", "right": "base"}
    asked = Talk().with_question(QUESTION[0]["content"], sides)
    with services.chat_with(run) as chat:
        *_, (talk, _) = answers(chat, asked, sides, settings)
    return {model: talk.side(side)[-1]["content"] for side, model in sides.items()}


def answer_of_the_command(capsys, *options):
    """Ask as ``workbench chat`` does, with a chat process of its own."""
    prompt = QUESTION[0]["content"]
    assert main(["chat", "latest", "--prompt", prompt, "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)["answer"]


def answer_over_http(server, model):
    """Ask as other people's programs do."""
    url = f"http://127.0.0.1:{server.port}/v1"
    client = openai.OpenAI(base_url=url, api_key=server.token, max_retries=0)
    (choice,) = client.chat.completions.create(model=model, messages=QUESTION).choices
    return choice.message.content


def test_page_command_server_and_plain_transformers_say_the_same(
    services, run, lively_model_dir, capsys, monkeypatch
):
    monkeypatch.setenv("WORKBENCH_HOME", str(services.settings.home_dir))
    tokenizer = load_tokenizer(lively_model_dir)
    base = AutoModelForCausalLM.from_pretrained(lively_model_dir, dtype=torch.float32).eval()
    expected = {"base": plain(base, tokenizer, ANSWER_TOKENS, do_sample=False)}
    tuned = PeftModel.from_pretrained(base, run.model_dir).eval()
    expected["tuned"] = plain(tuned, tokenizer, ANSWER_TOKENS, do_sample=False)
    assert answers_of_the_page(services, run) == expected
    server = services.chat._server
    assert {model: answer_over_http(server, model) for model in expected} == expected
    services.chat.close()
    assert answer_of_the_command(capsys) == expected["tuned"]
    assert answer_of_the_command(capsys, "--base") == expected["base"]
    assert all(expected.values())
    assert expected["tuned"] != expected["base"]


def test_another_run_answers_on_the_same_base(services, run, lively_model_dir):
    values = {"model": str(lively_model_dir), "method": "rslora"}
    other = make_run(services.runs, "other", values)
    torch.manual_seed(5)
    config = LoraConfig(r=2, lora_alpha=64, use_rslora=True, target_modules=["o_proj", "up_proj"])
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(lively_model_dir), config)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    made.save_pretrained(other.model_dir)
    services.chat.open(run)
    name = f"run-{other.id}"
    answers = [ask(services, model) for model in ("tuned", name, "base", name, "tuned")]
    expected = plain(made.eval(), load_tokenizer(lively_model_dir), do_sample=False)
    assert answers == [answers[0], expected, answers[2], expected, answers[0]]
    assert len(set(answers)) == 3
    services.runs.delete(other)
    with pytest.raises(WorkbenchError, match="no model"):
        ask(services, name)


def test_strength_nothing_is_the_base(services, run):
    services.chat.open(run)
    assert ask(services, "tuned", strength=0) == ask(services, "base")
    assert ask(services, "tuned", strength=1) == ask(services, "tuned")


def test_a_strength_that_is_kept_counts_where_none_is_asked_for(services, run):
    services.chat.open(run)
    as_trained, half = (ask(services, "tuned", strength=strength) for strength in (1, 0.5))
    base = ask(services, "base")
    keep_strength(run, 0.5)  # also for a process that runs already
    assert [ask(services, name) for name in ("tuned", "step-20", "base")] == [half, half, base]
    assert ask(services, "tuned", strength=1) == as_trained
    keep_strength(run, 0)
    assert ask(services, "tuned") == base != as_trained
    keep_strength(run, 1)
    assert ask(services, "tuned") == as_trained


def test_what_is_served_is_looked_up_once_an_answer(run, monkeypatch):
    engine = Engine(run, Path(run.config.model))
    looked_up, find = [], served_models
    monkeypatch.setattr(
        engine_module, "served_models", lambda run: looked_up.append(run) or find(run)
    )
    prompt = engine.chat_prompt(QUESTION, 3)
    write(engine, "tuned", prompt)
    assert len(looked_up) == 1


def test_a_seed_repeats_and_another_varies(services, run):
    services.chat.open(run)
    first, again, other = (ask(services, "base", temperature=1.5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert ask(services, "base", temperature=1.5) != ask(services, "base", temperature=1.5)


def test_older_turns_are_dropped_with_a_note(services, run):
    services.chat.open(run)
    long = [
        {"role": "user", "content": "x" * 300},
        {"role": "assistant", "content": "y" * 200},
        *QUESTION,
    ]
    *_, reply = services.chat.replies("tuned", long, max_tokens=24)
    assert "The oldest 2 messages were left out" in reply.note
    assert reply.text == ask(services, "tuned")
    text, tokens, note = services.chat.prompt_text(long, max_tokens=24)
    assert note == reply.note
    assert text == ("<|im_start|>user\nWhat comes after 3?<|im_end|>\n<|im_start|>assistant\n")
    assert tokens == len(prompt_ids(load_tokenizer(run.config.model), QUESTION))


def test_a_last_message_that_is_too_long_is_a_sentence(services, run):
    services.chat.open(run)
    with pytest.raises(WorkbenchError, match="longer than the 512 this model can read"):
        ask(services, "tuned", [{"role": "user", "content": "word " * 10_000}])
    assert ask(services, "tuned")


def test_the_process_ends_and_a_second_open_costs_nothing(services, run):
    services.chat.open(run)
    process = process_of(services.chat)
    services.chat.open(run)
    assert process_of(services.chat) is process
    services.chat.close()
    assert process.poll() is not None
    assert services.chat.run_id == ""


def test_a_crashed_process_is_a_sentence_and_opens_again(services, run):
    services.chat.open(run)
    process_of(services.chat).kill()
    process_of(services.chat).wait()
    with pytest.raises(WorkbenchError, match="stopped answering"):
        ask(services, "tuned")
    services.chat.open(run)
    assert ask(services, "tuned")


def test_an_idle_process_ends_by_itself_and_opens_again(services, run):
    chat = ChatProcess(services.settings, idle_seconds=2)
    chat.open(run)
    assert list(stream(chat, "base", QUESTION, max_tokens=4))
    assert process_of(chat).wait(20) == 0
    assert chat.run_id == ""
    chat.open(run)
    assert list(stream(chat, "base", QUESTION, max_tokens=4))
    chat.close()


def test_rapid_stops_leave_nothing_behind(services, run):
    services.chat.open(run)
    child = psutil.Process(process_of(services.chat).pid)
    before = None
    for count in range(70):
        answer = stream(services.chat, "tuned" if count % 2 else "base", QUESTION, max_tokens=400)
        next(answer)
        answer.close()
        if count == 20:  # from here on all is warm
            ask(services, "tuned")
            before = child.memory_info().rss
    ask(services, "tuned")
    assert child.memory_info().rss < before * 1.05
    assert child.children() == []
    services.chat.close()
    assert not child.is_running()


def test_a_run_without_a_model_is_a_sentence(services, run):
    hidden = run.model_dir.rename(run.directory / "elsewhere")
    kept = run.checkpoints_dir.rename(run.directory / "kept")
    with pytest.raises(WorkbenchError, match="no model to chat with"):
        services.chat.open(run)
    kept.rename(run.checkpoints_dir)
    hidden.rename(run.model_dir)


def test_a_run_without_a_model_answers_as_its_newest_checkpoint(services, run, capsys, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(services.settings.home_dir))
    services.chat.open(run)
    tuned, base = ask(services, "tuned"), ask(services, "base")
    services.chat.close()
    hidden = run.model_dir.rename(run.directory / "elsewhere")
    assert learned_model(run) == "step-20"
    services.chat.open(run)
    assert [ask(services, name) for name in ("step-20", "base")] == [tuned, base]
    with pytest.raises(WorkbenchError, match="There is no model 'tuned'"):
        ask(services, "tuned")
    asked = ["chat", run.id, "--prompt", "Who are you?", "--json"]
    assert main(asked) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["model"] == "step-20"
    assert "its newest checkpoint answers: that of step 20" in told.err
    assert main([*asked, "--checkpoint", "10"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "step-10"
    assert main([*asked, "--checkpoint", "7"]) == 2
    assert "no checkpoint of step 7" in capsys.readouterr().err
    hidden.rename(run.model_dir)


def test_a_model_that_cannot_be_loaded_is_a_sentence(services, run):
    path = run.model_dir / "adapter_model.safetensors"
    good = path.read_bytes()
    path.write_bytes(b"broken")
    with pytest.raises(WorkbenchError, match="could not be loaded"):
        services.chat.open(run)
    path.write_bytes(good)


def test_a_checkpoint_that_cannot_be_read_is_a_sentence_and_the_others_answer(services, run):
    services.chat.open(run)
    path = served_models(run)["step-10"] / "adapter_model.safetensors"
    good = path.read_bytes()
    path.write_bytes(b"x" * len(good))
    with pytest.raises(WorkbenchError, match="could not answer"):
        ask(services, "step-10")
    path.write_bytes(good)
    assert ask(services, "base") != ask(services, "tuned")
    assert ask(services, "step-10")


def test_a_run_deleted_while_it_is_loaded_is_closed(services, run):
    copy = shutil.copytree(run.directory, services.runs.root_dir / f"{run.id}-copy")
    loaded = services.runs.get(copy.name)
    services.chat.open(loaded)
    process = process_of(services.chat)
    delete_run(services, loaded)
    assert process.poll() is not None
    services.chat.open(run)
    assert ask(services, "tuned")


def test_a_run_that_another_process_deletes_takes_its_models_along(services, run):
    copy = shutil.copytree(run.directory, services.runs.root_dir / f"{run.id}-copy")
    services.chat.open(services.runs.get(copy.name))
    process = process_of(services.chat)
    other = Services.for_workspace(services.settings)
    delete_run(other, other.runs.get(copy.name))
    assert process.wait(10) == RUN_GONE
    assert services.chat.why_gone == "The run was deleted, so its models left the memory."
    services.chat.open(run)
    assert ask(services, "tuned")


def test_the_chat_waits_while_a_run_trains(services, run):
    services.runs.create(
        run.config.model_copy(update={"max_steps": 100_000}), run.data, "b", {}, None
    )
    busy = services.runs.get("latest")
    services.supervisor.start(busy)
    with pytest.raises(WorkbenchError, match="still training"), services.chat_with(run):
        pass
    services.supervisor.kill(busy)
    services.runs.delete(busy)


def test_who_is_told_the_port_can_connect_at_once():
    with (
        listen() as listener,
        socket.create_connection(listener.getsockname(), timeout=5) as client,
    ):
        assert client.getpeername() == listener.getsockname()


def test_a_taken_port_is_a_sentence():
    with listen() as listener, pytest.raises(WorkbenchError, match="cannot be used"):
        listen(port=listener.getsockname()[1])
