"""What each method makes of a loaded model: which weights learn, and with which optimizer.

PEFT and ``transformers.Trainer`` do the work; here is only how they are told.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import peft
import torch
from peft.optimizers import create_loraplus_optimizer

from workbench.config import TrainingConfig, split_names
from workbench.errors import WorkbenchError
from workbench.presets import methods
from workbench.training.rank_allocation import ORTHOGONALITY

CAUSAL = "CAUSAL_LM"
# IA3 scales keys, values and the inner activations of the feed-forward layer (arXiv 2205.05638, section 3.3).
IA3_MODULES, IA3_FEEDFORWARD = ["k_proj", "v_proj", "down_proj"], ["down_proj"]
# PiSSA begins at the largest singular vectors (arXiv 2404.02948); 16 rounds of the fast method take seconds.
PISSA_INITIALISATION = "pissa_niter_16"
# AdaLoRA begins with half as much again as it ends with (arXiv 2303.10512, section 4), and prunes between a
# tenth and seven tenths of the run.
ADALORA_SURPLUS, ADALORA_WARMUP, ADALORA_SETTLED = 1.5, 0.1, 0.3
_LAYER_NUMBER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")


def make_trainable(model: Any, config: TrainingConfig, total_steps: int) -> Any:
    """Add the method's adapter, or choose the weights of the model that learn.

    Args:
        model: As loaded, nothing decided yet.
        config: Method and settings.
        total_steps: Optimizer steps of the run; AdaLoRA plans its pruning by them.

    Raises:
        WorkbenchError: No weight has one of the names given.
    """
    if config.method == "freeze":
        return _freeze(model, config)
    if methods()[config.method].saves == "model":
        return model
    model.requires_grad_(False)
    model = peft.get_peft_model(model, ADAPTERS[config.method](config, model, total_steps))
    _learn_in_fp32(model)
    return model


def _learn_in_fp32(model: Any) -> None:
    """Let an adapter be fp32 on a base in bf16: that has 8 bits of mantissa, and small updates would be rounded away.

    PEFT 0.21 sees to it for most methods, but not for adaption prompts; it lets AdaLoRA's number of ranks learn, which it
    does not save; and it rounds DoRA's lengths before, so that the model would not begin as what it was.
    """
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for layer in model.modules():
        for length in getattr(layer, "lora_magnitude_vector", {}).values():
            exact = torch.linalg.vector_norm(layer.get_base_layer().weight.float(), dim=1)
            length.weight.data.copy_(exact)


def _lora(config: TrainingConfig, model: Any, total_steps: int, **more: Any) -> peft.PeftConfig:
    return peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.target_module_names,
        task_type=CAUSAL,
        **more,
    )


def _adalora(config: TrainingConfig, model: Any, total_steps: int) -> peft.PeftConfig:
    return peft.AdaLoraConfig(
        target_r=config.lora_rank,
        init_r=round(config.lora_rank * ADALORA_SURPLUS),
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=config.target_module_names,
        total_step=total_steps,
        tinit=round(total_steps * ADALORA_WARMUP),
        tfinal=round(total_steps * ADALORA_SETTLED),
        deltaT=1,
        orth_reg_weight=ORTHOGONALITY,
        task_type=CAUSAL,
    )


def _oft(config: TrainingConfig, model: Any, total_steps: int) -> peft.PeftConfig:
    return peft.OFTConfig(
        r=0,
        oft_block_size=config.oft_block_size,
        target_modules=config.target_module_names,
        task_type=CAUSAL,
    )


def _ia3(config: TrainingConfig, model: Any, total_steps: int) -> peft.PeftConfig:
    return peft.IA3Config(
        target_modules=IA3_MODULES, feedforward_modules=IA3_FEEDFORWARD, task_type=CAUSAL
    )


def _adaption_prompt(config: TrainingConfig, model: Any, total_steps: int) -> peft.PeftConfig:
    return peft.AdaptionPromptConfig(
        adapter_len=config.virtual_tokens,
        adapter_layers=model.config.num_hidden_layers,
        task_type=CAUSAL,
    )


def _virtual_tokens(
    kind: Callable[..., peft.PeftConfig], config: TrainingConfig, model: Any, total_steps: int
) -> peft.PeftConfig:
    return kind(num_virtual_tokens=config.virtual_tokens, task_type=CAUSAL)


def _prompt_encoder(config: TrainingConfig, model: Any, total_steps: int) -> peft.PeftConfig:
    return peft.PromptEncoderConfig(
        num_virtual_tokens=config.virtual_tokens,
        encoder_hidden_size=model.config.hidden_size,
        task_type=CAUSAL,
    )


ADAPTERS: dict[str, Callable[[TrainingConfig, Any, int], peft.PeftConfig]] = {
    "lora": _lora,
    "qlora": _lora,
    "lora-8bit": _lora,
    "loraplus": _lora,
    "dora": functools.partial(_lora, use_dora=True),
    "rslora": functools.partial(_lora, use_rslora=True),
    "pissa": functools.partial(_lora, init_lora_weights=PISSA_INITIALISATION),
    "adalora": _adalora,
    "oft": _oft,
    "ia3": _ia3,
    "adapter": _adaption_prompt,
    "prefix": functools.partial(_virtual_tokens, peft.PrefixTuningConfig),
    "prompt": functools.partial(_virtual_tokens, peft.PromptTuningConfig),
    "ptuning": _prompt_encoder,
}


def _freeze(model: Any, config: TrainingConfig) -> Any:
    """Let only the last layers learn, or the parts with the given names."""
    assert config.trained_layers is not None
    first = model.config.num_hidden_layers - config.trained_layers
    names = split_names(config.trained_parts)
    for name, weight in model.named_parameters():
        if names == ["layers"]:
            number = layer_number(name)
            weight.requires_grad_(number is not None and number >= first)
        else:
            weight.requires_grad_(any(part in names for part in name.split(".")))
    if not any(weight.requires_grad for weight in model.parameters()):
        raise WorkbenchError(
            f"The model has no part called {config.trained_parts}.",
            "Set the trained parts to layers, or to names such as mlp, self_attn or norm.",
        )
    return model


def layer_number(name: str) -> int | None:
    """Return which layer (from 0) a weight belongs to, or ``None`` for embeddings, head and last norm."""
    match = _LAYER_NUMBER.search(f".{name}")
    return int(match[1]) if match else None


def optimizer_arguments(config: TrainingConfig) -> dict[str, Any]:
    """Return Trainer's arguments for the optimizer of the method."""
    if config.method == "galore":  # arXiv 2403.03507: projected anew every 200 steps, scale 0.25
        options = f"rank={config.projection_rank}, update_proj_gap=200, scale=0.25"
        return {
            "optim": "galore_adamw",
            "optim_target_modules": "all-linear",
            "optim_args": options,
        }
    if config.method == "apollo":  # arXiv 2412.05270: random projection, one scale a channel
        options = f"rank={config.projection_rank}, update_proj_gap=200, scale=1.0, proj=random"
        options += ", scale_type=channel"
        return {
            "optim": "apollo_adamw",
            "optim_target_modules": "all-linear",
            "optim_args": options,
        }
    if config.uses("optimizer") and config.optimizer == "adamw-8bit":
        return {"optim": "adamw_8bit"}
    return {}


def build_optimizer(model: Any, config: TrainingConfig) -> torch.optim.Optimizer | None:
    """Return the optimizer where Trainer has none of its kind, else ``None``."""
    if config.method == "loraplus":  # arXiv 2402.12354
        return create_loraplus_optimizer(
            model,
            torch.optim.AdamW,
            lr=config.learning_rate,
            loraplus_lr_ratio=config.loraplus_ratio,
            weight_decay=config.weight_decay,
        )
    if config.uses("layer_lr_decay") and config.layer_lr_decay < 1:
        return _optimizer_by_layer(model, config)
    return None


def _optimizer_by_layer(model: Any, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW in which each layer learns slower than the one above (ULMFiT, arXiv 1801.06146)."""
    assert config.learning_rate is not None
    layers = model.config.num_hidden_layers
    groups: dict[int, list[torch.nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            number = layer_number(name)
            depth = number if number is not None else (-1 if "embed" in name else layers)
            groups.setdefault(layers - depth, []).append(weight)
    kind: type[torch.optim.Optimizer] = torch.optim.AdamW
    if config.optimizer == "adamw-8bit":
        kind = bitsandbytes.optim.AdamW8bit
    arguments = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    return kind(
        [
            {"params": weights, "lr": config.learning_rate * config.layer_lr_decay**below}
            for below, weights in groups.items()
        ],
        **arguments,
    )


def prepare_saving(model: Any, config: TrainingConfig, directory: Path) -> dict[str, Any]:
    """Return what ``save_pretrained`` needs at the end; call it before the first step.

    PiSSA takes the adapter's beginning out of the base weights. Saved as the difference to that beginning it is
    a plain LoRA for the untouched base model, as all others are.
    """
    if config.method != "pissa":
        return {}
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(directory)
    return {"path_initial_model_for_weight_conversion": str(directory)}
