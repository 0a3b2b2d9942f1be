"""Models that learn: the sizes of a small one, and what makes it ready, as a run does."""

from __future__ import annotations

import torch

from workbench.training.fused_lora import fuse_lora
from workbench.training.methods import make_trainable

# Of any kind that transformers knows.
SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
}


def make_ready(base, config):
    """Return the model with what learns; a fresh adapter's B is zero and so is the gradient of A: both get something."""
    model = make_trainable(base, config, 1)
    fuse_lora(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return model
