"""How much memory training needs at most, by part: pure arithmetic over the model's sizes.

On a CPU it is the growth of the process over what it had before the model was loaded; on a graphics card
what is allocated there. Formulas count what PyTorch keeps for the backward pass of a Llama-like layer
(norms, attention, gated feed-forward); the constants that were fitted say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workbench.config import LORA, TrainingConfig
from workbench.models.facts import ModelFacts, Shape
from workbench.presets import Base, MethodPreset

# Attention in bf16 on a CPU computes so many queries together at most; of 48 to 1,024 it is the fastest for 115 to 1,600
# tokens, or within a few percent of it. What its queries take of more keys than MOST_KEPT_KEYS is worked out twice: it
# would be most of memory.
BLOCK_TOKENS, MOST_KEPT_KEYS = 128, 512
# Bytes of a weight that does not learn. NF4 with double quantization has 4.127 bits (arXiv 2305.14314);
# embeddings and head are never squeezed.
NF4_BYTES, INT8_BYTES = 0.516, 1.0
# What a CPU's allocator keeps of packing weights into 4 or 8 bits (0.3 GB more than LoRA takes, whatever the length;
# measured with the starter model, not with larger ones, whose weights are handed back as they are freed).
PACKING_CPU_BYTES = 300_000_000
GRADIENT_BYTES = 4  # what learns is fp32 everywhere
ADAM_BYTES, ADAM_8BIT_BYTES = 8, 2.06
# Logits are made for a slice of the supervised tokens at a time. On a CPU with 2 cores and 49,152 words, slices
# of 512 tokens took 0.65 times as long as slices of 128 (measured); graphics cards want more at once.
SLICE_TOKENS = {"cpu": 512, "cuda": 2_048}
# A slice's loss is worked out for so many logits at a time, in fp32, with two numbers for each. On a CPU they stay in
# its cache: 33 ms for 512 tokens and 49,152 words, where all at once took 88 (2 cores of an AMD EPYC).
PIECE_NUMBERS = {"cpu": 2**20, "cuda": 2**24}
PIECE_BYTES = 8
# On a CPU, in bf16, the gradient of a frozen head is made of the words that matter, if they are at most this share.
MOST_KEPT_WORDS = 0.4


@dataclass(frozen=True)
class Memory:
    """Bytes of memory by part; the peak is their sum.

    Attributes:
        weights: The model as it is loaded.
        learning: Weights that learn in addition, gradients, and the optimizer's notes.
        activations: What a micro-batch leaves for the backward pass.
        head: Logits of a slice of it.
        workspace: Temporary copies.
    """

    weights: int
    learning: int
    activations: int
    head: int
    workspace: int

    @property
    def peak_bytes(self) -> int:
        return self.weights + self.learning + self.activations + self.head + self.workspace


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
    """
    shape = Shape.of(model.architecture)
    if shape is None:
        return None
    base = model.base_of(method)
    number = 4 if precision == "fp32" else 2
    attention = _attention_bytes(shape, device, number, longest_row_tokens, shared_start)
    per_token = attention + _activation_bytes(shape, config, method, base, device, number)
    # The first layers are computed again. Their turn comes last, when nothing is left of those kept whole, and one
    # after the other, so at least one layer is whole at any time. What entered them is kept.
    recomputed = recomputed_layers(shape.layers, recomputed_share)
    whole = max(1, shape.layers - recomputed)
    entering = shape.width * (4 if device == "cpu" else number)
    activations = micro_batch_tokens * (whole * per_token + recomputed * entering)
    return Memory(
        weights=round(_weight_bytes(shape, method, base, number)),
        learning=round(_learning_bytes(shape, config, method)),
        activations=round(activations),
        head=_head_bytes(shape, method, device, number, supervised_tokens),
        workspace=round(
            _workspace_bytes(shape, base, micro_batch_tokens, longest_row_tokens, device, number)
        ),
    )


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
        "freeze": min(shape.layers, config.trained_layers or 0) * shape.layer_weights,
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


def _weight_bytes(shape: Shape, method: MethodPreset, base: Base, number: int) -> float:
    held = number if method.saves == "adapter" else 4
    linear = shape.layers * shape.layer_weights
    # What computes in bf16 with fp32 weights keeps a copy of them for the backward pass.
    plain = held + (number if number < held else 0)
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
    return count * (added + GRADIENT_BYTES + optimizer)


def _activation_bytes(
    shape: Shape, config: TrainingConfig, method: MethodPreset, base: Base, device: str, number: int
) -> float:
    """Return what one token leaves in one layer, but for attention.

    Two norms keep their input in fp32, and its normalized form where they are not fused; the linear layers their inputs
    (query, key and value share one, gate and up another, unless the base is squeezed: then each adapter has a copy);
    the feed-forward gate, its activation and up.
    """
    is_fused = device == "cpu" and not config.compile
    norms = 2 * (4 + (0 if is_fused else number)) * shape.width
    readers = 2 if base == "plain" else 5
    inputs = number * (readers * shape.width + shape.query + shape.inner)
    gate = number * 3 * shape.inner
    adapter = 4 * config.lora_rank * 7 if method.saves == "adapter" else 0
    return norms + inputs + gate + adapter


def _attention_bytes(
    shape: Shape, device: str, number: int, longest_row_tokens: int, shared_start: int
) -> float:
    """Return what attention keeps of one token: query, key, value and result.

    On a CPU in bf16 query and key are fp32, and each head keeps how much the token takes of the keys that its block
    sees: if it is in one of the longest rows, the shared start, half of the rest and half a block.
    """
    kept = number * 2 * (shape.query + shape.key_value)
    if device == "cuda" or number == 4:
        return kept
    most = min(longest_row_tokens, MOST_KEPT_KEYS)
    keys = min(most, shared_start + (most - shared_start + BLOCK_TOKENS) / 2)
    return kept + 2 * (shape.query + shape.key_value) + number * shape.heads * keys


def _head_bytes(
    shape: Shape, method: MethodPreset, device: str, number: int, supervised_tokens: int
) -> int:
    """Return what the loss needs: one slice of logits, and the gradient of a head that learns."""
    tokens = min(supervised_tokens, SLICE_TOKENS[device])
    gradient = 4 * shape.vocabulary * shape.width if method.saves == "model" else 0
    piece = min(tokens * shape.vocabulary, PIECE_NUMBERS[device])
    filtered = device == "cpu" and number == 2 and not gradient
    words = MOST_KEPT_WORDS * shape.vocabulary * (tokens + shape.width) if filtered else 0
    return int(number * (tokens * shape.vocabulary + words)) + PIECE_BYTES * piece + gradient


def _workspace_bytes(
    shape: Shape, base: Base, tokens: int, longest_row_tokens: int, device: str, number: int
) -> float:
    """Return temporary copies: gradients on their way through a layer, weights unpacked for it, scores of a block."""
    backward = number * tokens * (6 * shape.inner + 6 * shape.width)
    unpacked = 0 if base == "plain" else number * 2 * shape.width * shape.inner
    if device == "cuda":
        return backward + unpacked
    packed = 0 if base == "plain" else PACKING_CPU_BYTES
    scores = (4 + 4 + number) * shape.heads * BLOCK_TOKENS * longest_row_tokens
    return backward + unpacked + packed + scores
