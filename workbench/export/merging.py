"""Merge what a run learned into its base model: added up in fp32, rounded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.integrations import dequantize_module_weight
from transformers import AutoConfig

from workbench.asking.loading import load_to_ask, scale_adapter
from workbench.compute import Compute
from workbench.presets import MethodPreset
from workbench.training.loading import keep_gradients_after_evaluation

ADAPTER = "default"  # the name under which PeftModel loads one
SQUEEZED = (Linear4bit, Linear8bitLt)


def base_dtype(base_dir: Path) -> torch.dtype:
    """Return the number format of the base model's files."""
    return AutoConfig.from_pretrained(base_dir, trust_remote_code=False).dtype or torch.float32


def asking_dtype(dtype: torch.dtype, compute: Compute) -> torch.dtype:
    """Return in which format a model is held to be asked: fp32 where that computes best, else its own.

    Never anything shorter than its own: merging must begin with all that the base has.
    """
    return torch.float32 if compute.precision == "fp32" else dtype


def load_adapter(
    base_dir: Path, adapter_dir: Path, method: MethodPreset, compute: Compute, strength: float
) -> PeftModel:
    """Load an adapter at a strength on the base model as it was trained on, 4 or 8 bits included."""
    dtype = asking_dtype(base_dtype(base_dir), compute)
    base = load_to_ask(base_dir, compute, dtype, compute.quantization(method.base))
    if method.base == "nf4":  # repacked weights cannot be unpacked
        keep_gradients_after_evaluation(base)
    model = PeftModel.from_pretrained(base, adapter_dir, adapter_name=ADAPTER).eval()
    scale_adapter(model, ADAPTER, strength)
    return model


def layer_count(model: Any) -> int:
    """Return how many layers have an adapter."""
    return len(_layers(model))


def merge(model: PeftModel, dtype: torch.dtype, advance: Callable[[int], None]) -> Any:
    """Return the plain model with the adapter merged in; the adapter's model is not to be used any more.

    Layer by layer, so that only one of them is there in fp32 at a time. A squeezed layer becomes what it was
    multiplied with in training: its weights unpacked.

    Args:
        model: An adapter on its base.
        dtype: In which every weight is in the end.
        advance: Called with 1 after each layer; may raise to end it.
    """
    with torch.no_grad():
        for layer in _layers(model):
            _merge_layer(layer, dtype)
            advance(1)
        plain = model.unload()
        for name, module in list(plain.named_modules()):
            if isinstance(module, SQUEEZED):  # one that has no adapter
                plain.set_submodule(name, _linear(_unpacked(module), module, dtype))
    _forget_quantization(plain)
    return round_to(plain, dtype)


def round_to(model: Any, dtype: torch.dtype) -> Any:
    """Give every weight its final format, one at a time."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    model.config.dtype = dtype
    return model


def _layers(model: Any) -> list[Any]:
    return [
        module
        for module in model.modules()
        if isinstance(module, BaseTunerLayer) and hasattr(module, "base_layer")
    ]


def _merge_layer(layer: Any, dtype: torch.dtype) -> None:
    base = layer.get_base_layer()
    if isinstance(base, SQUEEZED):  # PEFT would squeeze the sum again
        merged = _unpacked(base) + layer.get_delta_weight(ADAPTER).float()
        layer.base_layer = _linear(merged, base, dtype)
        return
    for weight in base.parameters():
        weight.data = weight.data.float()
    layer.merge(safe_merge=True)
    for weight in base.parameters():
        weight.data = weight.data.to(dtype)


def _unpacked(module: Any) -> torch.Tensor:
    return dequantize_module_weight(module).detach().float()


def _linear(weight: torch.Tensor, old: Any, dtype: torch.dtype) -> torch.nn.Linear:
    """Return a plain layer with these weights and the bias of the old one."""
    outputs, inputs = weight.shape
    layer = torch.nn.Linear(inputs, outputs, bias=old.bias is not None, device="meta")
    layer.weight = torch.nn.Parameter(weight.to(dtype), requires_grad=False)
    if old.bias is not None:
        layer.bias = torch.nn.Parameter(old.bias.detach().to(dtype), requires_grad=False)
    return layer


def _forget_quantization(model: Any) -> None:
    """Make a model that was loaded squeezed say that it is a plain one now."""
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    for name in ("is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit"):
        if getattr(model, name, False):
            setattr(model, name, False)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
