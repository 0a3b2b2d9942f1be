"""A linear layer with its LoRA in one step: fewer passes over the activations, the same result.

PEFT's layer makes the update, scales it and adds it: three more passes over a tensor as large as the layer's
output, forward and backward. Matrix multiplication can add to what is there already, so here none is left. On a base
of 4 bits PEFT on a processor also turns what comes in to fp32 and back, for each adapter; here it stays as it is.
PEFT stays in charge of everything else: the format, merging, switching adapters off.
"""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora.bnb import Linear4bit as LoraLinear4bit
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.layer import LoraLayer
from torch.autograd.function import once_differentiable


def fuse_lora(model: torch.nn.Module) -> int:
    """Let the plain LoRA layers of a model compute in one step, and return how many there are.

    Layers with anything more (dropout, DoRA, a base of 8 bits, several adapters) stay as they are.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer) and is_plain(m)]
    for layer in layers:
        # One class, not a function each: what is compiled serves all.
        layer.__class__ = FUSED[type(layer)]
    return len(layers)


def is_plain(layer: LoraLayer) -> bool:
    """Say whether a layer is a frozen plain linear layer, of 4 bits or not, with one LoRA and nothing more."""
    names = list(layer.lora_A)
    return (
        (type(layer), type(layer.base_layer)) in PLAIN
        and len(names) == 1
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and isinstance(layer.lora_dropout[names[0]], torch.nn.Identity)
        and layer.lora_B[names[0]].bias is None
        and not layer.base_layer.weight.requires_grad
    )


class FusedLoraLinear(LoraLinear):
    """PEFT's layer on a base whose weights are as they are."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args or kwargs or not has_only_its_lora(self):
            usual: torch.Tensor = super().forward(x, *args, **kwargs)
            return usual
        return _in_one_step(self, x)


class FusedLoraLinear4bit(LoraLinear4bit):
    """PEFT's layer on a base of 4 bits, which is unpacked for each pass and forgotten."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # Where nothing learns, bitsandbytes has kernels that need not unpack.
        reads_only = not torch.is_grad_enabled()
        if args or kwargs or reads_only or not has_only_its_lora(self):
            usual: torch.Tensor = super().forward(x, *args, **kwargs)
            return usual
        return _in_one_step(self, x)


def has_only_its_lora(layer: LoraLayer) -> bool:
    """Say whether a layer that is plain has its LoRA switched on, and not merged."""
    return not (layer.disable_adapters or layer.merged) and bool(layer.active_adapters)


def _in_one_step(layer: LoraLayer, x: torch.Tensor) -> torch.Tensor:
    (name,) = layer.lora_A
    base, device = layer.base_layer, x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    state = getattr(base.weight, "quant_state", None)
    with torch.autocast(device, enabled=False):
        fused: torch.Tensor = _LoraLinear.apply(
            x.to(dtype),
            base.weight.to(dtype) if state is None else base.weight,
            state,
            None if base.bias is None else base.bias.to(dtype),
            layer.lora_A[name].weight.to(dtype),
            layer.lora_B[name].weight.to(dtype),
            layer.scaling[name],
        )
    return fused


PLAIN = {(LoraLinear, torch.nn.Linear), (LoraLinear4bit, Linear4bit)}
FUSED = {LoraLinear: FusedLoraLinear, LoraLinear4bit: FusedLoraLinear4bit}


class _LoraLinear(torch.autograd.Function):
    """x W' + b + s (x A') B', with x (..., in), W (out, in) or packed with its state, A (rank, in), B (out, rank)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        state: QuantState | None,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ a.T
        result = torch.nn.functional.linear(rows, _unpacked(weight, state, x.dtype), bias)
        result.addmm_(inner, b.T, alpha=scaling)
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.state, ctx.scaling = state, scaling
        return result.view(*x.shape[:-1], result.shape[-1])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_result: torch.Tensor) -> tuple[Any, ...]:
        rows, weight, a, b, inner = ctx.saved_tensors
        of_rows = of_result.reshape(-1, of_result.shape[-1])
        of_inner = (of_rows @ b).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_rows @ _unpacked(weight, ctx.state, rows.dtype)
            of_x = of_x.addmm_(of_inner, a).view(*of_result.shape[:-1], a.shape[-1])
        of_a = of_inner.T @ rows
        # This way round its rows are long, which is a third faster (measured).
        of_b = (inner.T @ of_rows).T.mul_(ctx.scaling)
        return of_x, None, None, None, of_a, of_b, None


def _unpacked(weight: torch.Tensor, state: QuantState | None, dtype: torch.dtype) -> torch.Tensor:
    """Return (out, in) weights in the format that computes."""
    return weight if state is None else dequantize_4bit(weight, state).to(dtype)
