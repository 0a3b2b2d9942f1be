"""The engine itself, with no process and no server around it: which weights answer, and when it stops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig

from tests.inference.asking import begin, go_on, write
from tests.made_runs import make_run
from workbench.asking.loading import limit_of, load_to_ask
from workbench.asking.quick import QuickModel
from workbench.compute import Compute
from workbench.errors import WorkbenchError
from workbench.inference import loaded
from workbench.inference.engine import Engine

FP32 = Compute("cpu", "fp32")
QUESTION = [{"role": "user", "content": "What comes after 3?"}]


def open_engine(services, base_dir, method):
    """Return the engine of a run whose adapter is random, and strong enough to be heard."""
    run = make_run(
        services.runs, values={"model": str(base_dir), "method": method, "precision": "fp32"}
    )
    torch.manual_seed(5)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    made = get_peft_model(AutoModelForCausalLM.from_pretrained(base_dir), config)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    made.save_pretrained(run.model_dir)
    return Engine(run, base_dir)


def answer(engine, name, tokens=24, is_stopped=lambda: False):
    return write(engine, name, engine.chat_prompt(QUESTION, tokens), is_stopped=is_stopped)


def logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits


def plain_answer(engine, model, ids):
    asked, end = torch.tensor([ids]), engine.tokenizer.eos_token_id
    written = model.generate(
        input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=24, do_sample=False,
        eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    return engine.tokenizer.decode(written[0, len(ids) :], skip_special_tokens=True)


def test_the_base_of_a_qlora_run_is_the_4_bit_base_with_no_adapter_on(services, lively_model_dir):
    engine = open_engine(services, lively_model_dir, "qlora")
    said = [answer(engine, name)[0] for name in ("base", "tuned", "base")]
    ids = engine.chat_prompt(QUESTION, 24).ids
    whole = load_to_ask(lively_model_dir, FP32, FP32.dtype)
    base, other = (
        load_to_ask(lively_model_dir, FP32, FP32.dtype, FP32.quantization("nf4")) for _ in range(2)
    )
    tuned = PeftModel.from_pretrained(other, engine.run.model_dir).eval()
    expected, base_logits = plain_answer(engine, base, ids), logits(base, ids)
    assert not torch.allclose(base_logits, logits(whole, ids), atol=0.1)
    assert said == [expected, plain_answer(engine, tuned, ids), expected]
    assert said[0] != said[1]
    with engine._models.use("base", Path(), 1.0) as ready:
        assert torch.equal(logits(ready.model, ids), base_logits)


def test_an_adapter_that_is_loaded_later_leaves_a_4_bit_base_as_it_was(services, lively_model_dir):
    engine = open_engine(services, lively_model_dir, "qlora")
    models, adapter_dir, ids = engine._models, engine.run.model_dir, list(range(5, 25))

    def ask(name):
        with models.use(name, adapter_dir, 1.0) as ready:
            return logits(ready.model, ids)

    base, tuned = ask("base"), ask("tuned")
    assert torch.equal(ask("step-10"), tuned)  # the same adapter, under another name
    assert torch.equal(ask("base"), base)
    assert torch.equal(ask("tuned"), tuned)


@pytest.mark.parametrize("at_token", [1, 2, 7])
@pytest.mark.parametrize("name", ["base", "tuned"])
@pytest.mark.parametrize("method", ["lora", "qlora"])  # a 4-bit base has no short way
def test_stop_ends_it_with_the_token_that_is_computed(
    services, tiny_model_dir, monkeypatch, method, name, at_token
):
    engine = open_engine(services, tiny_model_dir, method)
    started, step = [], QuickModel.step

    def count(*_):
        started.append(1)

    monkeypatch.setattr(QuickModel, "step", lambda quick, rows: count() or step(quick, rows))
    with engine._models.use("base", Path(), 1.0) as ready:
        assert (ready.quick is None) == (method == "qlora")
        ready.model.get_base_model().model.register_forward_pre_hook(count)
    # Somebody presses Stop while this token is being computed.
    _, outcome = answer(engine, name, tokens=200, is_stopped=lambda: len(started) >= at_token)
    assert (len(started), outcome.tokens, outcome.finish_reason) == (at_token, at_token, "stop")


def test_stop_before_the_first_token_computes_nothing(services, tiny_model_dir):
    engine = open_engine(services, tiny_model_dir, "lora")
    assert answer(engine, "tuned", is_stopped=lambda: True)[1].tokens == 0


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_not_a_number_is_a_sentence(services, lively_model_dir, temperature):
    engine = open_engine(services, lively_model_dir, "lora")
    begun, _ = begin(engine, "tuned", engine.chat_prompt(QUESTION, 24), temperature=temperature)
    scores = torch.zeros(1, len(engine.tokenizer))
    scores[0, -1] = float("nan")
    with pytest.raises(WorkbenchError, match="training has diverged"):
        begun.choose(scores)


def test_where_there_is_no_short_way_it_is_the_same_sentence(
    services, lively_model_dir, monkeypatch
):
    monkeypatch.setattr(loaded, "quick_model", lambda *_: None)
    engine = open_engine(services, lively_model_dir, "lora")
    with torch.no_grad():
        engine._models._model.get_output_embeddings().weight[3] = float("nan")
    for temperature in (0.0, 1.0):
        with pytest.raises(WorkbenchError, match="training has diverged"):
            write(engine, "base", engine.chat_prompt(QUESTION, 4), temperature=temperature)


ASKED = [
    ("tuned", {}),
    ("base", {}),
    ("tuned", {"strength": 0.5, "temperature": 0.8, "seed": 3, "top_p": 0.9}),
    ("base", {"temperature": 1.0, "seed": 4, "top_k": 20, "repetition_penalty": 1.2}),
    ("base", {"question": [{"role": "user", "content": "And " * 30 + "?"}], "tokens": 7}),
]


def test_answers_written_together_are_those_written_alone(services, lively_model_dir):
    engine = open_engine(services, lively_model_dir, "lora")
    asked = []
    for name, choice in ASKED:
        question, tokens = choice.get("question", QUESTION), choice.get("tokens", 24)
        how = {key: value for key, value in choice.items() if key not in ("question", "tokens")}
        asked.append((name, engine.chat_prompt(question, tokens), how))
    alone = [write(engine, name, prompt, **choice) for name, prompt, choice in asked]
    begun = []
    for name, prompt, choice in asked:  # each joins those that are at their third token, or further
        begun.append(begin(engine, name, prompt, **choice))
        write_more(engine, begun, 3)
    write_more(engine, begun, 24)
    assert [("".join(pieces), one.outcome) for one, pieces in begun] == alone
    assert len({text for text, _ in alone}) == len(ASKED)


def write_more(engine, begun, tokens):
    for _ in range(tokens):
        if going := [one for one, _ in begun if not one.is_over]:
            go_on(engine, going)


def test_a_model_that_names_no_limit_has_none():
    assert limit_of(BloomConfig()) == 10**9
    assert limit_of(LlamaConfig(max_position_embeddings=77)) == 77
