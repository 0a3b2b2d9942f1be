"""Load a model as the method wants it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from workbench.asking.loading import squeezing, standard_attention
from workbench.compute import Compute
from workbench.config import TrainingConfig
from workbench.presets import MethodPreset, methods
from workbench.training import attention, varlen
from workbench.training.attention import supports_per_sequence
from workbench.training.fused_norm import fuse_norms
from workbench.training.recomputing import layers_of, norms_of


def load_model(
    model_dir: Path,
    config: TrainingConfig,
    compute: Compute,
    tell: Callable[[str], None] = lambda sentence: None,
) -> tuple[Any, bool]:
    """Load the base model as the method wants it, on the device, nothing trainable decided yet.

    Args:
        model_dir: A folder with config.json and safetensors.
        config: Method and settings.
        compute: Device and precision.
        tell: Told in a sentence why batches are padded, where the person should know.

    Returns:
        The model, and whether it needs padded batches because it cannot run padding-free.
    """
    architecture = AutoConfig.from_pretrained(model_dir, trust_remote_code=False)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(architecture), None)
    method = methods()[config.method]
    dtype = _weight_dtype(method, compute)
    found = "" if method.padded else _padding_free(model_class, architecture, config, compute, tell)
    model = AutoModelForCausalLM.from_pretrained(
        model_dir,
        attn_implementation=found or standard_attention(model_class),
        dtype=dtype,
        **squeezing(compute.quantization(method.base)),
        device_map={"": compute.device},
        trust_remote_code=False,
        use_safetensors=True,
    )
    model.config.use_cache = False
    if compute.device == "cpu":
        if dtype == torch.bfloat16:
            add_up_in_fp32(model)
        if not config.compile:
            fuse_norms(model, compute.dtype)
    keep_gradients_after_evaluation(model)
    return model, not found


def _padding_free(
    model_class: Any,
    architecture: Any,
    config: TrainingConfig,
    compute: Compute,
    tell: Callable[[str], None],
) -> str:
    """Return the name of the attention that needs no padding; empty where there is none, which is told."""
    if (
        not supports_per_sequence(model_class, architecture)
        # NEFTune's noise depends on the length of a row; one row of many examples would get too little.
        or config.neftune_alpha > 0
    ):
        tell("This model or one of its settings takes the slower, padded path.")
        return ""
    if compute.device == "cpu":
        attention.register()
        return attention.NAME
    # On a graphics card, one call per sequence would launch too many small kernels.
    drops = getattr(architecture.get_text_config(), "attention_dropout", 0)
    reason = "drops nothing" if drops else varlen.why_not(compute, architecture)
    if reason:
        tell(
            "Rows are filled up to one length, which is slower but right: the graphics card's attention for rows of "
            f"different length {reason}."
        )
        return ""
    varlen.register()
    return varlen.NAME


def add_up_in_fp32(model: torch.nn.Module) -> None:
    """Let what goes from layer to layer be fp32 in a model whose weights are bf16; its norms and biases are fp32, too.

    In models whose norms come last in a layer (the first OPT, BART), bf16 goes on from these.

    Its answers are then those of fp32 weights under autocast. With the starter model on 16 Alpaca rows, their divergence from
    those of fp32 was 0.0005 nats a token and never above 0.008; where layers add up in bf16, it was 0.0010 and up to 0.18.
    """
    for parameter in model.parameters():
        if parameter.dim() < 2 and parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()
    model.get_input_embeddings().register_forward_hook(lambda module, given, made: made.float())
    # Several layers read what a norm gives: they keep one bf16 copy for the backward pass, not one each.
    for norm in (norm for layer in layers_of(model) for norm in norms_of(layer)):
        norm.register_forward_hook(lambda module, given, made: made.bfloat16())


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
    """Weights that an adapter goes with have the format that computes; what trains is fp32."""
    return compute.dtype if method.saves == "adapter" else torch.float32
