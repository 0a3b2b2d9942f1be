"""How much memory training needs at most, by part: pure arithmetic over the model's sizes.

On a CPU it is the growth of the process over what it had before the model was loaded; on a graphics card
what is allocated there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from workbench.card_passes import LIGER_MODEL_TYPES, CardPasses
from workbench.config import LORA, TrainingConfig, split_names
from workbench.models.facts import ModelFacts, Shape
from workbench.passes import CpuPasses
from workbench.presets import Base, MethodPreset

# Bytes of a weight that does not learn. NF4 with double quantization has 4.127 bits (arXiv 2305.14314);
# embeddings and head are never squeezed.
NF4_BYTES, INT8_BYTES = 0.516, 1.0
# The methods whose adapters ``fused_lora.py`` takes over.
FUSED_METHODS = {"lora", "qlora", "rslora", "loraplus", "pissa"}
# The parts that make up the head, where it has weights of its own and where it has those of the embeddings.
HEAD_NAMES = ({"lm_head"}, {"lm_head", "embed_tokens"})
GRADIENT_BYTES = 4  # what learns is fp32 everywhere
ADAM_BYTES, ADAM_8BIT_BYTES = 8, 2.06


@dataclass(frozen=True)
class Memory:
    """Bytes of memory by part; the peak is their sum.

    Attributes:
        weights: The model as it is loaded.
        learning: Weights that learn in addition, and the optimizer's notes.
        activations: What a micro-batch leaves for the backward pass.
        temporary: What is there besides when most is: logits, gradients, copies.
    """

    weights: int
    learning: int
    activations: int
    temporary: int

    @property
    def peak_bytes(self) -> int:
        return self.weights + self.learning + self.activations + self.temporary


def estimate_memory(
    config: TrainingConfig,
    model: ModelFacts,
    method: MethodPreset,
    *,
    micro_batch_tokens: int,
    supervised_tokens: int,
    longest_row_tokens: int,
    shared_start: int,
    device: Literal["cpu", "cuda"],
    precision: Literal["fp32", "bf16"],
    recomputed_share: float,
    has_liger: bool = False,
    follows_another: bool = False,
    general_tokens: float = 0.0,
) -> Memory | None:
    """Estimate the peak; ``None`` where the model's sizes are not known.

    Args:
        config: The settings.
        model: The model.
        method: Its method.
        micro_batch_tokens: Tokens in the largest micro-batch, padding included where there is any.
        supervised_tokens: How many of them have logits.
        longest_row_tokens: Tokens of the longest example.
        shared_start: Tokens that all examples begin with, which stand in a micro-batch once; 0 where it is padded.
        device: Where it computes.
        precision: The number format of activations.
        recomputed_share: The share of the layers whose activations are computed again instead of kept, from 0 to 1.
        has_liger: Whether a graphics card has Liger kernels, and uses them if they know the model.
        follows_another: Whether a step has more than one micro-batch of its own rows.
        general_tokens: Of the general examples that go with a step.
    """
    shape = Shape.of(model.architecture)
    if shape is None:
        return None
    base = model.base_of(method)
    number = 4 if precision == "fp32" else 2
    text = model.architecture.get("text_config", model.architecture)
    common: dict[str, Any] = {
        "shape": shape,
        "config": config,
        "method": method,
        "base": base,
        "number": number,
        "tokens": micro_batch_tokens,
        "supervised_tokens": supervised_tokens,
        "recomputed": recomputed_layers(shape.layers, recomputed_share),
        "gradients": GRADIENT_BYTES * trained_weights(shape, config),
        "longest_row_tokens": longest_row_tokens,
        "shared_start": shared_start,
        **_what_learns(config, method, shape),
    }
    passes: CpuPasses | CardPasses
    if device == "cpu":
        passes = CpuPasses(**common, bends_logits=bool(text.get("final_logit_softcapping")))
    else:
        passes = CardPasses(
            **common,
            uses_liger=has_liger and text.get("model_type") in LIGER_MODEL_TYPES,
            follows_another=follows_another,
            general_tokens=general_tokens,
        )
    return Memory(
        weights=round(_weight_bytes(shape, method, base, number, device)),
        learning=round(_learning_bytes(shape, config, method)),
        activations=round(passes.activations),
        temporary=round(passes.peak - passes.activations),
    )


def _what_learns(config: TrainingConfig, method: MethodPreset, shape: Shape) -> dict[str, Any]:
    """Return what ``Passes`` has to know of the method, by the names of its attributes."""
    drops = config.uses("lora_dropout") and config.lora_dropout > 0
    is_fused = config.method in FUSED_METHODS and not drops
    layers, head_learns = shape.layers, method.saves == "model"
    if config.method == "freeze":
        names = set(split_names(config.trained_parts))
        head_learns = bool(names & HEAD_NAMES[shape.tied])
        if names == {"layers"}:
            layers = min(shape.layers, config.trained_layers or 0)
    return {
        "layers": layers,
        "head_learns": head_learns,
        "is_left_to_peft": config.uses("lora_dropout") and not is_fused,
        "drops": drops,
    }


def recomputed_layers(layers: int, share: float) -> int:
    """Return how many of so many layers a share is; a part of a layer counts as one."""
    return math.ceil(share * layers)


def trained_weights(shape: Shape, config: TrainingConfig) -> float:
    """Return how many weights learn."""
    sums = sum(inputs + outputs for inputs, outputs in shape.linear_sizes)
    tokens = config.virtual_tokens or 0
    lora = shape.layers * config.lora_rank * sums
    by_method: dict[str, float] = dict.fromkeys(LORA, lora) | {
        "full": shape.weights,
        "galore": shape.weights,
        "apollo": shape.weights,
        "freeze": _frozen_but_for(shape, config),
        "adalora": 1.5 * lora,
        "oft": shape.layers
        * sum(inputs for inputs, _ in shape.linear_sizes)
        * (config.oft_block_size - 1)
        / 2,
        "ia3": shape.layers * (2 * shape.key_value + shape.inner),
        "adapter": shape.layers * tokens * shape.width,
        "prefix": 2 * shape.layers * tokens * shape.key_value,
        "ptuning": tokens * shape.width + 3 * shape.width**2,
        "prompt": tokens * shape.width,
    }
    return by_method[config.method]


def _frozen_but_for(shape: Shape, config: TrainingConfig) -> float:
    """Return how many weights learn where only the last layers do, or the parts with some names."""
    names = set(split_names(config.trained_parts))
    if names == {"layers"}:
        return min(shape.layers, config.trained_layers or 0) * shape.layer_weights
    q, k, v, o, gate, up, down = (inputs * outputs for inputs, outputs in shape.linear_sizes)
    of_layer = {"self_attn": q + k + v + o, "mlp": gate + up + down, "q_proj": q, "k_proj": k}
    of_layer |= {"v_proj": v, "o_proj": o, "gate_proj": gate, "up_proj": up, "down_proj": down}
    ends = names & {"embed_tokens", "lm_head"}
    # Norms are next to nothing; what other names stand for is at most all.
    others = (
        0 if "norm" in name else shape.layer_weights for name in names - of_layer.keys() - ends
    )
    in_layer = min(shape.layer_weights, sum(of_layer.get(n, 0) for n in names) + sum(others))
    return shape.layers * in_layer + len(ends) * shape.vocabulary * shape.width


def _weight_bytes(
    shape: Shape, method: MethodPreset, base: Base, number: int, device: str
) -> float:
    held = number if method.saves == "adapter" else 4
    linear = shape.layers * shape.layer_weights
    # What computes in bf16 with fp32 weights keeps a copy of them for the backward pass.
    copied = number if device == "cpu" and number < held else 0
    plain = held + copied
    per_linear = {"plain": plain, "nf4": NF4_BYTES, "int8": INT8_BYTES}[base]
    return per_linear * linear + held * shape.embedding_weights


def _learning_bytes(shape: Shape, config: TrainingConfig, method: MethodPreset) -> float:
    count = trained_weights(shape, config)
    optimizer: float = ADAM_BYTES
    if config.uses("optimizer") and config.optimizer == "adamw-8bit":
        optimizer = ADAM_8BIT_BYTES
    # GaLore keeps Adam's notes of projected matrices, APOLLO of smaller ones: share of Adam's, about rank / width.
    if config.uses("projection_rank"):
        optimizer *= min(1.0, (config.projection_rank or 0) / shape.width)
    added = 4 if method.saves == "adapter" else 0
    return count * (added + optimizer)
