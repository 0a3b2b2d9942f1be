"""Questions are answered while a model learns, in the shortest way there is."""

from __future__ import annotations

import pytest
import torch
from transformers import TrainerControl, TrainerState

from tests.training.trainable import make_ready
from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.rendering import load_tokenizer
from workbench.training import samples
from workbench.training.loading import load_model
from workbench.training.samples import Question, SampleWriter

QUESTIONS = [
    Question([{"role": "user", "content": "What comes after 1?"}], "2"),
    Question([{"role": "user", "content": "Who are you, and what is your name?"}]),
]


def watch(model, tokenizer, compute):
    """Let a run begin and a check come; return what was told."""
    told = []
    writer = SampleWriter(QUESTIONS, model, tokenizer, compute, told.append, lambda: False)
    state, control = TrainerState(), TrainerControl()
    writer.on_train_begin(None, state, control)
    state.global_step = 3
    writer.on_evaluate(None, state, control)
    return told


@pytest.mark.parametrize(
    ("method", "precision", "is_quick"),
    [
        ("lora", "fp32", True), ("lora", "bf16", True), ("pissa", "fp32", True),
        ("dora", "fp32", False), ("qlora", "fp32", False), ("full", "fp32", False),
    ],
)  # fmt: skip
def test_answers_are_those_of_all_together(
    tiny_model_dir, monkeypatch, method, precision, is_quick
):
    torch.manual_seed(0)
    compute, config = Compute("cpu", precision), build_config({"method": method})
    model = make_ready(load_model(tiny_model_dir, config, compute)[0], config)
    tokenizer = load_tokenizer(tiny_model_dir)
    ways = []
    for name in ("quick_answers", "greedy_answers"):
        usual = getattr(samples, name)
        monkeypatch.setattr(
            samples, name, lambda *given, n=name, u=usual: ways.append(n) or u(*given)
        )
    told = watch(model, tokenizer, compute)
    assert set(ways) == {"quick_answers" if is_quick else "greedy_answers"}
    assert [(one.step, one.question) for one in told] == [
        (step, question.messages[-1]["content"]) for step in (0, 3) for question in QUESTIONS
    ]
    assert [one.expected for one in told] == ["2", "", "2", ""]
    if precision == "fp32":
        monkeypatch.setattr(SampleWriter, "_short_way", lambda self: None)
        assert [one.answer for one in watch(model, tokenizer, compute)] == [
            one.answer for one in told
        ]


def test_a_model_that_was_watched_still_learns(tiny_model_dir):
    """Looking leaves nothing in the model that gradients cannot pass."""
    torch.manual_seed(0)
    compute, config = Compute("cpu", "fp32"), build_config({})
    model = make_ready(load_model(tiny_model_dir, config, compute)[0], config)
    watch(model, load_tokenizer(tiny_model_dir), compute)
    model.train()
    model.set_attn_implementation("sdpa")
    model(torch.tensor([[5, 6, 7]])).logits.sum().backward()
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    assert learning
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in learning)
