"""What the forward and backward pass of a micro-batch take at most: pure arithmetic over the model's sizes.

Formulas count what PyTorch keeps for the backward pass of a Llama-like layer (norms, attention, gated feed-forward). On
a processor it is the growth of the process, and the constants that were fitted say so; on a graphics card what is
allocated there, which ``tests/simulated_card.py`` counts with the code of a run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from workbench.config import TrainingConfig
from workbench.models.facts import Shape
from workbench.presets import Base, MethodPreset

# Attention in bf16 on a CPU computes so many queries together at most; of 48 to 1,024 it is the fastest for 115 to 1,600
# tokens, or within a few percent of it. What its queries take of more keys than MOST_KEPT_KEYS is worked out twice: it
# would be most of memory.
BLOCK_TOKENS, MOST_KEPT_KEYS = 128, 512
# What a CPU's allocator keeps of packing weights into 4 or 8 bits (0.3 GB more than LoRA takes, whatever the length;
# measured with the starter model, not with larger ones, whose weights are handed back as they are freed).
PACKING_CPU_BYTES = 300_000_000
# Logits are made for a slice of the supervised tokens at a time. On a CPU with 2 cores and 49,152 words, slices
# of 512 tokens took 0.65 times as long as slices of 128 (measured); graphics cards want more at once.
SLICE_TOKENS = {"cpu": 512, "cuda": 2_048}
# A slice's loss is worked out for so many logits at a time, in fp32, with two numbers for each. On a CPU they stay in
# its cache: 33 ms for 512 tokens and 49,152 words, where all at once took 88 (2 cores of an AMD EPYC).
PIECE_NUMBERS = {"cpu": 2**20, "cuda": 2**24}
PIECE_BYTES = {"cpu": 8, "cuda": 16}
# On a CPU, in bf16, the gradient of a frozen head is made of the words that matter, if they are at most this share.
MOST_KEPT_WORDS = 0.4
# The common kinds of model that Liger kernels (0.8.5) know; others are planned without them.
LIGER_MODEL_TYPES = {
    "gemma",
    "gemma2",
    "gemma3_text",
    "granite",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
}


@dataclass(frozen=True)
class Passes:
    """A micro-batch, for what all devices have in common.

    Attributes:
        shape: The model's sizes.
        config: Every setting that memory depends on.
        method: What learns.
        base: How its weights are held.
        number: Bytes of a number of the format that computes.
        tokens: Of the micro-batch, padding included.
        supervised_tokens: How many of them have logits.
        recomputed: Layers whose activations are computed again; the first ones. Their turn comes last, when nothing is
            left of those kept whole. What entered them is kept.
        gradients: Bytes of the gradients of all that learns.
    """

    device: ClassVar[Literal["cpu", "cuda"]]

    shape: Shape
    config: TrainingConfig
    method: MethodPreset
    base: Base
    number: int
    tokens: int
    supervised_tokens: int
    recomputed: int
    gradients: float

    @property
    def trains_model(self) -> bool:
        return self.method.saves == "model"

    @property
    def slice_tokens(self) -> int:
        """How many tokens have logits at once."""
        return min(self.supervised_tokens, SLICE_TOKENS[self.device])

    @property
    def logits(self) -> float:
        """Bytes of the logits of a slice, and of what is worked out of a piece of them."""
        numbers = self.slice_tokens * self.shape.vocabulary
        piece = min(numbers, PIECE_NUMBERS[self.device])
        return self.number * numbers + PIECE_BYTES[self.device] * piece

    @property
    def of_head(self) -> float:
        """Bytes of the gradient of the head, where it learns."""
        return 4 * self.shape.vocabulary * self.shape.width if self.trains_model else 0.0


@dataclass(frozen=True)
class CpuPasses(Passes):
    """The passes on a processor; all that comes and goes counts, because the process seldom gives back so quickly.

    Attributes:
        longest_row_tokens: Tokens of the longest example.
        shared_start: Tokens that all examples begin with, which stand in the micro-batch once; 0 where it is padded.
        bends_logits: Whether the model bends its logits, so that the head's gradient is not filtered.
    """

    device = "cpu"

    longest_row_tokens: int
    shared_start: int
    bends_logits: bool

    @property
    def activations(self) -> float:
        """Bytes that all layers together leave for the backward pass; at any time at least one is whole."""
        whole = max(1, self.shape.layers - self.recomputed)
        return self.tokens * (whole * self._of_token + self.recomputed * self.shape.width * 4)

    @property
    def peak(self) -> float:
        """Bytes at most."""
        head = self.logits + self.of_head + self._filter
        return self.activations + self.gradients + head + self._workspace

    @property
    def _of_token(self) -> float:
        """What one token leaves in one layer.

        Two norms keep their input in fp32, and where they are compiled its normalized form; the linear layers their inputs
        (query, key and value share one, gate and up another, unless the base has 8 bits: then each adapter has a copy);
        the feed-forward gate, its activation and up.
        """
        shape, number = self.shape, self.number
        norms = 2 * (4 + (number if self.config.compile else 0)) * shape.width
        readers = 5 if self.base == "int8" else 2
        inputs = number * (readers * shape.width + shape.query + shape.inner)
        gate = number * 3 * shape.inner
        between = 0 if self.trains_model else 7 * 4 * self.config.lora_rank
        return norms + inputs + gate + between + self._attention

    @property
    def _attention(self) -> float:
        """What attention keeps of one token: query, key, value and result.

        In bf16 query and key are fp32, and each head keeps how much the token takes of the keys that its block
        sees: if it is in one of the longest rows, the shared start, half of the rest and half a block.
        """
        sizes = self.shape.query + self.shape.key_value
        if self.number == 4:
            return 2 * 4 * sizes
        most, shared = min(self.longest_row_tokens, MOST_KEPT_KEYS), self.shared_start
        keys = min(most, shared + (most - shared + BLOCK_TOKENS) / 2)
        return 2 * self.number * sizes + 2 * sizes + self.number * self.shape.heads * keys

    @property
    def _filter(self) -> float:
        """The words that the head's gradient is made of, in bf16, where the head is frozen."""
        if self.number == 4 or self.trains_model or self.bends_logits:
            return 0.0
        rows = self.slice_tokens + self.shape.width
        return self.number * MOST_KEPT_WORDS * self.shape.vocabulary * rows

    @property
    def _workspace(self) -> float:
        """Temporary copies: gradients on their way through a layer, weights unpacked for it, scores of a block."""
        shape, number = self.shape, self.number
        backward = number * self.tokens * (6 * shape.inner + 6 * shape.width)
        unpacked = PACKING_CPU_BYTES + number * 2 * shape.width * shape.inner
        scores = (4 + 4 + number) * shape.heads * BLOCK_TOKENS * self.longest_row_tokens
        return backward + scores + (0 if self.base == "plain" else unpacked)


@dataclass(frozen=True)
class CardPasses(Passes):
    """The passes on a graphics card.

    Attributes:
        uses_liger: Whether norms and feed-forward parts are Liger kernels.
        follows_another: Whether gradients of an earlier micro-batch of the step are there already.
    """

    device = "cuda"

    uses_liger: bool
    follows_another: bool

    @property
    def activations(self) -> float:
        """Bytes that all layers together leave for the backward pass."""
        whole = (self.shape.layers - self.recomputed) * self._of_layer
        return whole + self.recomputed * self._entering

    @property
    def peak(self) -> float:
        """Bytes at most: where layers end, at the logits, or where the backward pass begins or ends."""
        earlier = self.gradients if self.follows_another else 0.0
        computed_again = self.recomputed * self._entering + self._of_layer if self.recomputed else 0
        # Autocast forgets the copies of weights when the last layer has computed, those of layers computed twice, too.
        layers_end = earlier + self.activations + self.recomputed * self._copied_weights
        at_logits = earlier + self.activations + self.logits + self.of_head
        begins = earlier + max(self.activations, computed_again) + self.of_head + self._copies
        # Where head and embeddings are one, its gradient is made twice, and added.
        twice = self.of_head if self.shape.tied else 0
        ends = self.gradients + self._of_layer + self._copies + twice
        return max(layers_end, at_logits, begins, ends)

    @property
    def _entering(self) -> float:
        """What goes from layer to layer; in fp32 where the model itself learns."""
        return self.tokens * self.shape.width * (4 if self.trains_model else self.number)

    @property
    def _of_layer(self) -> float:
        """What a layer leaves, its copy of weights included."""
        return self.tokens * self._of_token + self._copied_weights

    @property
    def _copied_weights(self) -> float:
        """What a layer has of its weights in the format that computes, where they are fp32 because they learn."""
        copied = self.number if self.trains_model and self.number < 4 else 0
        return copied * self.shape.layer_weights

    @property
    def _of_token(self) -> float:
        """What one token leaves in one layer.

        Where an adapter learns, a norm keeps its input in fp32, or as it came (Liger); the linear layers that read the
        same share it, and the last one of attention shares what attention keeps. Where the model learns, inputs of norms are fp32,
        their normalized form is kept for the weights of the norm, and each linear layer has a copy of its input in the
        format that computes. Liger forgets the activation of the feed-forward gate.
        """
        shape, number = self.shape, self.number
        attention = number * 2 * (shape.query + shape.key_value)
        feed_forward = number * (3 if self.uses_liger else 4) * shape.inner
        if self.trains_model:
            norms = 2 * (4 if self.uses_liger else 8) * shape.width
            return norms + number * (5 * shape.width + shape.query) + attention + feed_forward
        norms = 2 * (number if self.uses_liger else 4) * shape.width
        between = 7 * number * self.config.lora_rank  # the two matrices of each adapter
        return norms + number * 2 * shape.width + attention + feed_forward + between

    @property
    def _copies(self) -> float:
        """What the backward pass of a layer has besides: gradients of two inner parts, and a matrix unpacked."""
        unpacked = 0 if self.base == "plain" else self.number * self.shape.width * self.shape.inner
        return self.tokens * self.number * 2 * self.shape.inner + unpacked
