"""Models are loaded as the method wants them, or as their files hold them."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, LlamaConfig

from workbench.asking.loading import load_to_ask
from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.facts import model_facts
from workbench.models.headers import linear_layers
from workbench.models.sources import find_model
from workbench.presets import methods
from workbench.training.attention import supports_per_sequence
from workbench.training.loading import load_model
from workbench.training.methods import make_trainable

CPU = Compute("cpu", "fp32")


@pytest.fixture(scope="module")
def squeezed_dir(tiny_model_dir, tmp_path_factory):
    """The tiny model in 4 bits, as others offer theirs."""
    directory = tmp_path_factory.mktemp("squeezed")
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model_dir, quantization_config=CPU.quantization("nf4")
    )
    model.save_pretrained(directory)
    return directory


def test_a_model_that_bends_its_attention_scores_needs_its_own_attention():
    class Model:
        _supports_attention_backend = True

    config = LlamaConfig()
    assert supports_per_sequence(Model, config)
    config.attn_logit_softcapping = 50.0
    assert not supports_per_sequence(Model, config)


def layers_in_4_bits(model):
    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def test_a_model_that_is_squeezed_already_is_loaded_as_it_is_and_takes_an_adapter(squeezed_dir):
    config = build_config({"target_modules": "q_proj"})
    model, _ = load_model(squeezed_dir, config, CPU)
    assert len(layers_in_4_bits(model)) == 14
    # Else adapters would get no gradient after an evaluation.
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers_in_4_bits(model))
    model.set_attn_implementation("sdpa")  # that of training wants to know where each row ends
    ids = torch.tensor([[5, 6, 7]])
    asked = load_to_ask(squeezed_dir, CPU, torch.float32)
    assert len(layers_in_4_bits(asked)) == 14
    torch.testing.assert_close(model.eval()(ids).logits, asked(ids).logits, rtol=1e-2, atol=1e-2)
    tuned = make_trainable(model, config, total_steps=2)
    tuned(ids).logits.sum().backward()
    gradients = [w.grad for name, w in tuned.named_parameters() if "lora_B" in name]
    assert len(gradients) == 2
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_frozen_weights_are_bf16_where_that_computes_and_what_they_add_up_to_is_not(tiny_model_dir):
    """The logits are those of fp32 weights under autocast."""
    compute = Compute("cpu", "bf16")
    model, _ = load_model(tiny_model_dir, build_config({}), compute)
    exact = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    embedding = exact.get_input_embeddings().weight.data
    embedding.copy_(embedding.bfloat16())  # which autocast leaves alone
    model.set_attn_implementation("sdpa")
    ids, streams = torch.tensor([[5, 6, 7, 8, 9]]), []
    for layer in model.get_decoder().layers:
        layer.register_forward_hook(lambda module, inputs, made: streams.append(made.dtype))
    with torch.no_grad(), compute.autocast():
        torch.testing.assert_close(model.eval()(ids).logits, exact(ids).logits, rtol=0, atol=0)
    assert set(streams) == {torch.float32}
    formats = {(weight.dim() > 1, weight.dtype) for weight in model.parameters()}
    assert formats == {(True, torch.bfloat16), (False, torch.float32)}


@pytest.mark.parametrize("method", ["full", "freeze"])
def test_weights_that_learn_are_fp32(tiny_model_dir, method):
    model, _ = load_model(tiny_model_dir, build_config({"method": method}), Compute("cpu", "bf16"))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


ADAPTERS_ON_A_PLAIN_BASE = sorted(
    name
    for name, preset in methods().items()
    if preset.saves == "adapter" and preset.base == "plain"
)


@pytest.mark.parametrize("method", ADAPTERS_ON_A_PLAIN_BASE)
def test_an_adapter_on_a_base_in_bf16_learns_the_same_weights_in_fp32(tiny_model_dir, method):
    config = build_config({"method": method, "virtual_tokens": 4})
    learning = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        base, _ = load_model(tiny_model_dir, config, Compute("cpu", precision))
        model = make_trainable(base, config, total_steps=10)
        learning[precision] = {
            name: weight for name, weight in model.named_parameters() if weight.requires_grad
        }
    assert learning["bf16"].keys() == learning["fp32"].keys()
    assert {weight.dtype for weight in learning["bf16"].values()} == {torch.float32}


def test_dora_on_a_base_in_bf16_begins_with_exact_lengths(tiny_model_dir):
    config = build_config({"method": "dora"})
    base, _ = load_model(tiny_model_dir, config, Compute("cpu", "bf16"))
    model = make_trainable(base, config, total_steps=10)
    layers = [m for m in model.modules() if getattr(m, "lora_magnitude_vector", None)]
    assert len(layers) == 14
    for layer in layers:
        found = layer.lora_magnitude_vector["default"].weight
        exact = layer.get_base_layer().weight.float().norm(dim=1)
        torch.testing.assert_close(found.data, exact, rtol=1e-6, atol=0)


def test_its_size_and_layers_are_those_of_the_model_it_was_made_from(squeezed_dir, tiny_model_dir):
    squeezed, plain = (
        model_facts(find_model(str(path), allow_folder=True), path)
        for path in (squeezed_dir, tiny_model_dir)
    )
    assert squeezed.squeezed_with == "bitsandbytes"
    assert squeezed.parameters == pytest.approx(plain.parameters, rel=0.01)
    assert set(linear_layers(squeezed.shapes)) == set(linear_layers(plain.shapes))
