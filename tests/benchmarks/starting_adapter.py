"""The adapter that every trainer begins with: where each draws its own, the first steps differ."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from peft import get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.benchmarks.trainers.job import lora


def save_start(model_dir: Path, rank: int, seed: int, path: Path) -> Path:
    """Write the weights of a LoRA as PEFT begins one; the model itself is not loaded.

    Args:
        model_dir: The model it is for.
        rank: Of the adapter.
        seed: Of its random half.
        path: Where the safetensors file will be.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model_dir))
    weights = get_peft_model_state_dict(get_peft_model(model, lora(rank)))
    random = torch.Generator().manual_seed(seed)
    save_file({name: _begin(name, weight.shape, random) for name, weight in weights.items()}, path)
    return path


def _begin(name: str, size: torch.Size, random: torch.Generator) -> torch.Tensor:
    """Return float32 weights: A uniform within 1 / sqrt(inputs), B zero (PEFT 0.21, ``reset_lora_parameters``)."""
    weight = torch.zeros(size)
    if ".lora_A." in name:
        torch.nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=random)
    return weight
