"""Models are loaded to be asked, and many questions at once are answered as each one alone."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.tiny_model import build_tiny_model
from workbench.asking import greedy
from workbench.asking.greedy import greedy_answers, quick_answers
from workbench.asking.loading import load_to_ask
from workbench.asking.products import usual_way
from workbench.asking.quick import quick_model
from workbench.compute import Compute
from workbench.models.rendering import load_tokenizer, stop_ids
from workbench.training.fused_lora import fuse_lora

CPU = Compute("cpu", "fp32")
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13]]
ALIKE = [[5, 6, 7, 8, *row] for row in PROMPTS] + [[5, 6, 7, 8]]
MOST_TOKENS = 12  # longer than the longest prompt
LORA = peft.LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM")
PREFIX = peft.PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
PROMPT = peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")


@pytest.fixture(scope="module")
def tokenizer(lively_model_dir):
    return load_tokenizer(lively_model_dir)


def alone(model, ids, ends):
    """The likeliest tokens, one after the other, everything read again for each."""
    read, new = list(ids), []
    while len(new) < MOST_TOKENS and not (new and new[-1] in ends):
        with torch.no_grad():
            logits = model(
                input_ids=torch.tensor([read]), attention_mask=torch.ones(1, len(read))
            ).logits
        new.append(int(logits[0, -1].argmax()))
        read.append(new[-1])
    return new


@pytest.mark.parametrize("prompts", [PROMPTS, ALIKE], ids=["different", "alike"])
@pytest.mark.parametrize(
    "adapter", [None, LORA, PREFIX, PROMPT], ids=["plain", "lora", "prefix", "prompt"]
)
def test_many_are_answered_as_each_alone(lively_model_dir, tokenizer, adapter, prompts):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(lively_model_dir)
    model = (peft.get_peft_model(model, adapter) if adapter else model).eval()
    ends = stop_ids(tokenizer)
    expected = [alone(model, ids, ends) for ids in prompts]
    found = greedy_answers(model, tokenizer, CPU, prompts, MOST_TOKENS)
    assert [row[: len(new)] for row, new in zip(found, expected, strict=True)] == expected
    assert len({tuple(new) for new in expected}) > 1


@pytest.mark.parametrize("fused", [False, True])
def test_a_few_are_answered_the_short_way_as_each_alone(lively_model_dir, tokenizer, fused):
    torch.manual_seed(0)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(lively_model_dir), LORA).eval()
    ends = stop_ids(tokenizer)
    expected = [alone(model, ids, ends) for ids in PROMPTS]
    if fused:  # as in training
        assert fuse_lora(model)
    with model.disable_adapter():
        quick = quick_model(model, usual_way(torch.float32))
    factors = quick.prepare("default")
    found = quick_answers(model, quick, factors, tokenizer, CPU, PROMPTS, MOST_TOKENS)
    assert found == expected
    assert len({tuple(new) for new in expected}) > 1


def test_an_answer_ends_the_short_way_and_the_others_go_on(
    lively_model_dir, tokenizer, monkeypatch
):
    model = AutoModelForCausalLM.from_pretrained(lively_model_dir).eval()
    whole = [alone(model, ids, ()) for ids in PROMPTS]
    end = whole[0][2]
    assert not all(end in answer for answer in whole)
    monkeypatch.setattr(greedy, "stop_ids", lambda tokenizer: [end])
    quick = quick_model(model, usual_way(torch.float32))
    factors = quick.prepare(None)
    found = quick_answers(model, quick, factors, tokenizer, CPU, PROMPTS, MOST_TOKENS)
    assert found == [
        answer[: answer.index(end) + 1] if end in answer else answer for answer in whole
    ]


def test_what_all_prompts_begin_with_is_read_once(lively_model_dir, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(lively_model_dir).eval()
    read = []
    embed = model.get_input_embeddings()
    embed.register_forward_pre_hook(lambda module, inputs: read.append(tuple(inputs[0].shape)))
    greedy_answers(model, tokenizer, CPU, ALIKE, MOST_TOKENS)
    assert read[:2] == [(1, 3), (4, 6)]  # every prompt keeps at least one token of its own


@pytest.mark.parametrize("with_prompts", [True, False])
def test_only_new_tokens_come_back(tokenizer, with_prompts):
    new = torch.arange(100, 100 + len(PROMPTS) * MOST_TOKENS).view(len(PROMPTS), MOST_TOKENS)

    class Model:
        def generate(self, input_ids, **settings):
            return torch.cat([input_ids, new], dim=1) if with_prompts else new

    assert greedy_answers(Model(), tokenizer, CPU, PROMPTS, MOST_TOKENS) == new.tolist()


def test_a_checkpoint_is_asked_with_the_attention_of_transformers_and_a_cache(tmp_path):
    directory = build_tiny_model(tmp_path / "checkpoint")
    path = directory / "config.json"
    trained = {"attn_implementation": "workbench_per_sequence", "use_cache": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | trained))
    model = load_to_ask(directory, CPU, torch.bfloat16)
    assert model.config._attn_implementation == "sdpa"
    assert model.config.use_cache
    assert model.dtype == torch.bfloat16
    assert not model.training
