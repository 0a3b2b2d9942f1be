"""The loss a slice at a time is the loss of all logits at once, with its gradients, for every kind of head."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from tests.training.trainable import SIZES
from workbench.compute import Compute
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.passes import PIECE_NUMBERS, SLICE_TOKENS
from workbench.training import head as head_module
from workbench.training.batches import micro_batches
from workbench.training.head import Head, sliced_cross_entropy
from workbench.training.loss import AnswerLoss

CPU = Compute("cpu", "fp32")
HEADS = {
    "plain": Head(torch.nn.Linear(16, 50, bias=False)),
    "bias": Head(torch.nn.Linear(16, 50)),
    "scaled": Head(torch.nn.Linear(16, 50, bias=False), scale=0.25),
    "bent": Head(torch.nn.Linear(16, 50), scale=2.0, softcap=0.8),
}


def example(length, seed):
    ids = torch.randint(2, 90, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenizedExample(ids, [IGNORED] * 3 + ids[3:])


def batch_of(*lengths):
    examples = [example(length, seed=length) for length in lengths]
    (batch,) = micro_batches(examples, 10_000, padded=True, pad_id=0)
    return batch


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("slice_tokens", "piece_tokens"), [(1, 1), (7, 3), (100, 100)])
@pytest.mark.parametrize("kind", HEADS)
def test_slices_give_the_same_loss_and_gradients(
    monkeypatch, kind, slice_tokens, piece_tokens, smoothing
):
    monkeypatch.setitem(SLICE_TOKENS, "cpu", slice_tokens)
    monkeypatch.setitem(PIECE_NUMBERS, "cpu", piece_tokens * 50)
    torch.manual_seed(0)
    head = HEADS[kind]
    hidden = torch.randn(20, 16, requires_grad=True)
    targets = torch.randint(0, 50, (20,))
    learns = [hidden, *head.layer.parameters()]
    logits = head.logits(hidden)
    expected = cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    gradients = torch.autograd.grad(expected / 3, learns)
    cost = sliced_cross_entropy(head, hidden, targets, smoothing)
    torch.testing.assert_close(cost.loss, expected, rtol=1e-5, atol=1e-6)
    assert cost.correct == (logits.argmax(dim=-1) == targets).sum()
    for ours, theirs in zip(torch.autograd.grad(cost.loss / 3, learns), gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_frozen_head_and_nothing_to_learn_need_no_gradient():
    head = Head(torch.nn.Linear(16, 50).requires_grad_(False))
    hidden, targets = torch.randn(5, 16, requires_grad=True), torch.arange(5)
    sliced_cross_entropy(head, hidden, targets).loss.backward()
    assert hidden.grad is not None
    assert head.layer.weight.grad is None
    assert not sliced_cross_entropy(head, hidden.detach(), targets).loss.requires_grad


def test_a_check_works_out_no_gradient_of_a_head_that_learns(monkeypatch):
    wanted, usual = [], head_module._loss_and_slope
    monkeypatch.setattr(
        head_module, "_loss_and_slope", lambda *given: wanted.append(given[-1]) or usual(*given)
    )
    head, hidden = Head(torch.nn.Linear(16, 50)), torch.randn(5, 16)
    sliced_cross_entropy(head, hidden, torch.arange(5))
    with torch.no_grad():
        sliced_cross_entropy(head, hidden, torch.arange(5))
    assert wanted == [True, False]


@pytest.mark.parametrize(
    ("kind", "more", "scale", "softcap"),
    [
        ("llama", {}, 1.0, 0.0),
        ("qwen3", {}, 1.0, 0.0),
        ("gemma2", {"final_logit_softcapping": 3.0}, 1.0, 3.0),
        ("granite", {"logits_scaling": 4.0}, 0.25, 0.0),
        ("cohere", {"logit_scale": 0.5}, 0.5, 0.0),
        ("phi3", {}, 1.0, 0.0),
    ],
)
def test_a_model_costs_what_its_own_logits_cost(kind, more, scale, softcap):
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, **SIZES, **more)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    loss = AnswerLoss.of(model, CPU, batch_of(9))
    assert loss.head is not None
    assert (loss.head.scale, loss.head.softcap) == (scale, softcap)
    batch = batch_of(12, 20)
    ours, plain = loss.cost(batch), AnswerLoss(model, CPU).cost(batch)
    torch.testing.assert_close(ours.loss, plain.loss, rtol=1e-5, atol=1e-5)
    assert ours.correct == plain.correct
    assert not loss.head.layer._forward_pre_hooks  # the model is as it was


def test_a_model_that_does_something_unknown_to_its_logits_takes_them_whole():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    forward = model.forward

    def strange(*args, **kwargs):
        output = forward(*args, **kwargs)
        output.logits = output.logits * 1.5
        return output

    model.forward = strange
    assert AnswerLoss.of(model, CPU, batch_of(9)).head is None


def test_a_head_that_is_no_plain_layer_is_taken_whole():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    model.lm_head = torch.nn.Sequential(model.lm_head)
    assert Head.of(model) is None


def adapted(target):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    base = AnswerLoss.of(model, CPU, batch_of(9))
    assert base.head is not None
    tuned = get_peft_model(model, LoraConfig(target_modules=[target], task_type="CAUSAL_LM"))
    return base.of_tuned(tuned), AnswerLoss(tuned, CPU)


@pytest.mark.parametrize("target", ["q_proj", "lm_head"])
def test_a_head_that_the_method_changed_is_taken_whole(target):
    loss, plain = adapted(target)
    assert (loss.head is None) == (target == "lm_head")
    batch = batch_of(12, 20)
    torch.testing.assert_close(loss.cost(batch).loss, plain.cost(batch).loss)
