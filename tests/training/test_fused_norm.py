"""A norm some rows at a time computes what the norm of transformers computes, with its gradients."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tests.training.trainable import SIZES
from workbench.compute import Compute
from workbench.config import build_config
from workbench.training.fused_norm import ROWS, fuse_norms, is_usual
from workbench.training.loading import load_model
from workbench.training.recomputing import layers_of, norms_of


def model():
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SIZES))
    for layer in layers_of(made):
        for norm in norms_of(layer):
            torch.nn.init.normal_(norm.weight, mean=1.0, std=0.2)
    return made


def logits_and_gradients(made):
    ids = torch.arange(2 * (ROWS // 2 + 20)).view(2, -1) % 90  # more rows than are computed at once
    logits = made(ids).logits
    logits.square().mean().backward()
    return logits, {name: weight.grad for name, weight in made.named_parameters()}


def test_a_model_and_its_gradients_stay_the_same():
    expected, gradients = logits_and_gradients(model())
    fused = model()
    assert fuse_norms(fused, torch.float32) == 4
    found, others = logits_and_gradients(fused)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-4, atol=1e-7)


def test_a_weight_that_does_not_learn_gets_no_gradient():
    layer = model().model.layers[0].requires_grad_(False)
    fuse_norms(layer, torch.float32)
    ours = torch.randn(1, 3, 32, requires_grad=True)
    layer.input_layernorm(ours).sum().backward()
    assert ours.grad is not None
    assert layer.input_layernorm.weight.grad is None


@pytest.mark.parametrize(
    ("norm", "usual"),
    [
        (LlamaRMSNorm(8), True),
        (LlamaRMSNorm(8).to(torch.bfloat16), True),
        (GemmaRMSNorm(8), False),
        (torch.nn.LayerNorm(8), False),
    ],
)
def test_a_norm_that_does_otherwise_stays_as_it_is(norm, usual):
    assert is_usual(norm) is usual


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_is_loaded_with_it_unless_it_is_compiled(tiny_model_dir, compiled):
    config = build_config({"method": "lora", "compile": compiled})
    loaded, _ = load_model(tiny_model_dir, config, Compute("cpu", "bf16"))
    norms = [norm for layer in layers_of(loaded) for norm in norms_of(layer)]
    assert all(("forward" in vars(norm)) is not compiled for norm in norms)
    assert {norm(torch.randn(1, 2, norm.weight.shape[0])).dtype for norm in norms} == {
        torch.bfloat16
    }
