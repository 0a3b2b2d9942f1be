"""A linear layer with its LoRA in one step: fewer passes over the activations, the same result.

PEFT's layer makes the update, scales it and adds it: three more passes over a tensor as large as the layer's
output, forward and backward. Matrix multiplication can add to what is there already, so here none is left.
PEFT stays in charge of everything else: the format, merging, switching adapters off.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch.autograd.function import once_differentiable


def fuse_lora(model: torch.nn.Module) -> int:
    """Let the plain LoRA layers of a model compute in one step, and return how many there are.

    Layers with anything more (dropout, DoRA, a base of 4 or 8 bits, several adapters) stay as they are.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLinear) and is_plain(m)]
    for layer in layers:
        # One class, not a function each: what is compiled serves all.
        layer.__class__ = FusedLoraLinear
    return len(layers)


def is_plain(layer: LoraLinear) -> bool:
    """Say whether a layer is a frozen plain linear layer with one LoRA and nothing more."""
    names = list(layer.lora_A)
    return (
        type(layer) is LoraLinear
        and type(layer.base_layer) is torch.nn.Linear
        and len(names) == 1
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and isinstance(layer.lora_dropout[names[0]], torch.nn.Identity)
        and layer.lora_B[names[0]].bias is None
        and not layer.base_layer.weight.requires_grad
    )


class FusedLoraLinear(LoraLinear):
    """PEFT's layer, computed in one step wherever there is nothing but its one LoRA."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.disable_adapters or self.merged or args or kwargs or not self.active_adapters:
            result: torch.Tensor = super().forward(x, *args, **kwargs)
            return result
        (name,) = self.lora_A
        base, device = self.base_layer, x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            fused: torch.Tensor = _LoraLinear.apply(
                x.to(dtype),
                base.weight.to(dtype),
                None if base.bias is None else base.bias.to(dtype),
                self.lora_A[name].weight.to(dtype),
                self.lora_B[name].weight.to(dtype),
                self.scaling[name],
            )
        return fused


class _LoraLinear(torch.autograd.Function):
    """x W' + b + s (x A') B', with x (..., in), W (out, in), A (rank, in), B (out, rank)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        inner = rows @ a.T
        result = torch.nn.functional.linear(rows, weight, bias)
        result.addmm_(inner, b.T, alpha=scaling)
        ctx.save_for_backward(rows, weight, a, b, inner)
        ctx.scaling = scaling
        return result.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_result: torch.Tensor) -> tuple[Any, ...]:
        rows, weight, a, b, inner = ctx.saved_tensors
        of_rows = of_result.reshape(-1, of_result.shape[-1])
        of_inner = (of_rows @ b).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (of_rows @ weight).addmm_(of_inner, a).view(*of_result.shape[:-1], -1)
        of_a = of_inner.T @ rows
        # This way round its rows are long, which is a third faster (measured).
        of_b = (inner.T @ of_rows).T.mul_(ctx.scaling)
        return of_x, None, None, of_a, of_b, None
