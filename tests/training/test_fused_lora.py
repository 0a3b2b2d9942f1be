"""The one-step LoRA layer computes what PEFT's computes, and leaves everything else to PEFT."""

from __future__ import annotations

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model

from workbench.training.fused_lora import fuse_lora


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(8, 12), torch.nn.Linear(12, 5, bias=False)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def in_four_bits(**options):
    """Return the layers as bitsandbytes squeezes them."""
    layers = Layers()
    for name, layer in list(layers.named_children()):
        made = Linear4bit(
            layer.in_features, layer.out_features, layer.bias is not None, torch.float32, **options
        )
        made.load_state_dict(layer.state_dict())
        made.support_avx512bf16_for_cpu = False  # as keep_gradients_after_evaluation has it
        setattr(layers, name, made.to("cpu"))  # this squeezes it
    layers.is_loaded_in_4bit = True
    return layers


NF4 = {"quant_type": "nf4", "compress_statistics": True}  # as runs have it
FP4 = {"quant_type": "fp4", "compress_statistics": False}  # as files may have it


def adapted(*, squeezed=None, **options):
    torch.manual_seed(0)
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["first", "second"], **options)
    model = get_peft_model(in_four_bits(**squeezed) if squeezed else Layers(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.5)
    return model


def result_and_gradients(model, *, autocast=False):
    torch.manual_seed(1)
    dtype = next(p.dtype for p in model.parameters() if p.requires_grad)
    x = torch.randn(2, 7, 8, requires_grad=True, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = model(x)
    result.square().sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return result, gradients | {"x": x.grad}


def assert_same(ours, theirs, tolerance):
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        assert ours[1][name].dtype == gradient.dtype
        torch.testing.assert_close(ours[1][name], gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}])
def test_result_and_gradients_are_those_of_peft(options):
    theirs = result_and_gradients(adapted(**options).double())
    model = adapted(**options).double()
    assert fuse_lora(model) == 2
    assert_same(result_and_gradients(model), theirs, 1e-12)


@pytest.mark.parametrize("squeezed", [NF4, FP4])
@pytest.mark.parametrize("training", [True, False])
def test_on_a_base_of_four_bits_they_are_those_of_peft_too(training, squeezed):
    theirs = result_and_gradients(adapted(squeezed=squeezed))
    model = adapted(squeezed=squeezed).train(training)
    assert fuse_lora(model) == 2
    assert_same(result_and_gradients(model), theirs, 1e-5)


@pytest.mark.parametrize("squeezed", [None, NF4])
def test_in_bf16_they_differ_by_rounding_only(squeezed):
    exact = result_and_gradients(adapted(squeezed=squeezed))
    usual = result_and_gradients(adapted(squeezed=squeezed), autocast=True)
    model = adapted(squeezed=squeezed)
    fuse_lora(model)
    ours = result_and_gradients(model, autocast=True)
    assert ours[0].dtype == torch.bfloat16
    for name, gradient in exact[1].items():
        error, usual_error = ((g[1][name] - gradient).norm() for g in (ours, usual))
        assert error < 2 * usual_error, name


@pytest.mark.parametrize("options", [{"use_dora": True}, {"lora_dropout": 0.1}])
def test_layers_with_more_than_lora_stay_as_they_are(options):
    assert fuse_lora(adapted(**options)) == 0


def test_switched_off_and_merged_it_is_what_peft_makes_of_it():
    model, usual = adapted(), adapted()
    fuse_lora(model)
    x = torch.randn(3, 8)
    with model.disable_adapter(), usual.disable_adapter():
        torch.testing.assert_close(model(x), usual(x))
    expected = usual(x)
    model.merge_adapter()
    torch.testing.assert_close(model(x), expected)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), expected)


def test_a_base_of_four_bits_is_what_peft_makes_of_it_when_nothing_learns():
    model, usual = adapted(squeezed=NF4), adapted(squeezed=NF4)
    fuse_lora(model)
    x = torch.randn(3, 8)
    with model.disable_adapter(), usual.disable_adapter():
        torch.testing.assert_close(model(x), usual(x))
    with torch.no_grad():
        torch.testing.assert_close(model(x), usual(x))
    for one in (model, usual):
        one.merge_adapter()
    torch.testing.assert_close(model(x), usual(x))
