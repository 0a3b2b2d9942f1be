"""A model that is ready to learn, as a run makes it."""

from __future__ import annotations

import torch

from workbench.training.fused_lora import fuse_lora
from workbench.training.methods import make_trainable


def make_ready(base, config):
    """Return the model with what learns; a fresh adapter's B is zero and so is the gradient of A: both get something."""
    model = make_trainable(base, config, 1)
    fuse_lora(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return model
