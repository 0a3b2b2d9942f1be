"""Compile what sees each token on its own: the norms and the feed-forward part of every layer.

Their programs serve micro-batches of any length, and one of each serves all layers, so building takes seconds.
A whole layer would be built anew for every number of sequences that its attention gets.
"""

from __future__ import annotations

from typing import Any

import torch

from workbench.training.recomputing import layers_of, norms_of


def compile_layers(model: torch.nn.Module) -> int:
    """Let norms and feed-forward parts be compiled at their first training step; return how many there are."""
    # Compiled here instead of in processes of its own, which could outlive this one.
    torch._inductor.config.compile_threads = 1
    parts = [
        part
        for layer in layers_of(model)
        for part in (*norms_of(layer), getattr(layer, "mlp", None))
        if part is not None
    ]
    for part in parts:
        _compile(part)
    return len(parts)


def _compile(part: Any) -> None:
    """Compile a module for training; checks and watched answers, with lengths of their own, go the usual way."""
    usual, compiled = part.forward, torch.compile(part.forward, dynamic=True)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return (compiled if part.training else usual)(*args, **kwargs)

    part.forward = forward
