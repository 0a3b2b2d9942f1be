"""Activation checkpointing of a share of the layers: less is kept for the backward pass, more is computed.

A layer that is computed twice keeps only what enters it (Chen et al., arXiv 1604.06174).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from workbench.memory import recomputed_layers


def recompute_layers(model: Any, share: float) -> None:
    """Let the first layers of a model be computed again in the backward pass; its gradient stays the same.

    The first ones, because their turn comes last: what the others kept is free by then.

    Args:
        model: Any model of transformers, or one with an adapter.
        share: Of its layers, above 0 and up to 1.
    """
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    # The reentrant kind needs inputs with a gradient; here it would only go through frozen layers below all that learns.
    model.disable_input_require_grads()
    layers = layers_of(model)
    for layer in layers[recomputed_layers(len(layers), share) :]:
        layer.gradient_checkpointing = False


def norms_of(layer: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the norms between the parts of a layer."""
    return [
        part for name, part in layer.named_children() if "norm" in name and not any(part.children())
    ]


def layers_of(model: Any) -> list[GradientCheckpointingLayer]:
    """Return the layers of a model, the first one first."""
    return [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
