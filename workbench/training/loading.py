"""Load a model as the method wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from workbench.asking import squeezing, standard_attention
from workbench.compute import Compute
from workbench.config import TrainingConfig
from workbench.presets import MethodPreset, methods
from workbench.training.attention import NAME, register, supports_per_sequence


def load_model(model_dir: Path, config: TrainingConfig, compute: Compute) -> tuple[Any, bool]:
    """Load the base model as the method wants it, on the device, nothing trainable decided yet.

    Args:
        model_dir: A folder with config.json and safetensors.
        config: Method and settings.
        compute: Device and precision.

    Returns:
        The model, and whether it needs padded batches because it cannot run padding-free.
    """
    architecture = AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(architecture), None)
    # On CUDA, one call per sequence would launch too many small kernels.
    method = methods()[config.method]
    padded = (
        compute.device == "cuda"
        or method.padded
        # NEFTune's noise depends on the length of a row; one row of many examples would get too little.
        or config.neftune_alpha > 0
        or not supports_per_sequence(model_class, architecture)
    )
    register()
    model = AutoModelForCausalLM.from_pretrained(
        model_dir,
        attn_implementation=standard_attention(model_class) if padded else NAME,
        dtype=_weight_dtype(method, compute),
        **squeezing(compute.quantization(method.base)),
        device_map={"": compute.device},
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.config.use_cache = False
    keep_gradients_after_evaluation(model)
    return model, padded


def keep_gradients_after_evaluation(model: torch.nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights for inference in the middle of training.

    On CPUs with AVX512-BF16, a forward pass in eval mode without gradients repacks the weights, and
    every later pass takes a kernel without a backward: adapters below get no gradient, silently
    (bitsandbytes 0.50.2, ``Linear4bit.forward`` and ``matmul_4bit``).
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """Return how many weights the model has and how many of them train; 4-bit ones count in full."""
    total = trained = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = state.shape.numel() if state is not None else parameter.numel()
        total += count
        trained += count if parameter.requires_grad else 0
    return total, trained


def _weight_dtype(method: MethodPreset, compute: Compute) -> torch.dtype:
    """Frozen weights on CUDA can be bf16; what trains is fp32, and on CPU autocast is as fast."""
    frozen = method.saves == "adapter"
    return compute.dtype if frozen and compute.device == "cuda" else torch.float32
