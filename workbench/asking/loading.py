"""Load a model to ask it, and let less or more of its adapter count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from workbench.compute import Compute


def standard_attention(model_class: Any) -> str:
    """Return the attention of transformers that a model can use; some (Gemma 2) have no fused one."""
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def squeezing(quantization: BitsAndBytesConfig | None) -> dict[str, Any]:
    """Return the argument that squeezes a model while it is loaded.

    Without one a model is loaded as its files hold it; ``None`` would undo what its config.json says of that.
    """
    return {"quantization_config": quantization} if quantization else {}


def load_to_ask(
    directory: Path,
    compute: Compute,
    dtype: torch.dtype,
    quantization: BitsAndBytesConfig | None = None,
) -> Any:
    """Load a model in evaluation mode, on the device, with the attention of transformers.

    Args:
        directory: A folder with config.json and safetensors.
        compute: Where it goes.
        dtype: Number format of its weights.
        quantization: How it is squeezed.
    """
    architecture = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(architecture), None)
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        # A checkpoint remembers the attention it was trained with.
        attn_implementation=standard_attention(model_class),
        dtype=dtype,
        **squeezing(quantization),
        device_map={"": compute.device},
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
    model.config.use_cache = True  # as does this
    return model


def limit_of(config: Any) -> int:
    """Return how many tokens a model can read, question and answer together; some, such as BLOOM, name no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 10**9)


def can_scale(model: Any) -> bool:
    """Say whether a model's adapter is a sum with the base. DoRA's is not: it also has a length of its own."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return bool(layers) and not any(layer.lora_variant for layer in layers)


def scale_adapter(model: Any, name: str, strength: float) -> list[tuple[LoraLayer, float]]:
    """Let a part of an adapter count, or more than all of it.

    Args:
        model: With the adapter loaded.
        name: Which one.
        strength: 1 is as trained, 0 as without it.

    Returns:
        Every layer with the scaling it had.

    Raises:
        ValueError: The adapter is no sum with the base.
    """
    if strength == 1:
        return []
    if not can_scale(model):
        raise ValueError("only an adapter that is a sum with the base has a strength")
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    before = [(layer, layer.scaling[name]) for layer in layers if name in layer.scaling]
    for layer, scaling in before:
        layer.scaling[name] = scaling * strength
    return before
