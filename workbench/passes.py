"""What the forward and backward pass of a micro-batch take at most: pure arithmetic over the model's sizes.

Formulas count what PyTorch keeps for the backward pass of a Llama-like layer (norms, attention, gated feed-forward). On
a processor it is the growth of the process, and the constants that were fitted say so; ``card_passes.py`` has graphics cards.
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
# A slice's loss is worked out for so many logits at a time, in fp32, with two numbers for each; on a card those of the
# piece before and of copies are counted, too. On a CPU they stay in its cache: 33 ms for 512 tokens and 49,152 words, where
# all at once took 88 (2 cores of an AMD EPYC).
PIECE_NUMBERS = {"cpu": 2**20, "cuda": 2**24}
PIECE_BYTES = {"cpu": 8, "cuda": 16}
# On a CPU, in bf16, the gradient of a frozen head is made of the words that matter, if they are at most this share.
MOST_KEPT_WORDS = 0.4


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
        longest_row_tokens: Tokens of the longest example.
        shared_start: Tokens that all examples begin with, which stand in the micro-batch once; 0 where it is padded.
        layers: Layers that keep something: those below the first one that learns keep nothing.
        head_learns: Whether the head does.
        is_left_to_peft: Whether a layer's LoRA is not added in one step (``fused_lora.py``), but as PEFT does, from fp32.
        drops: Whether adapters drop some of their inputs; then these are kept, and which they are.
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
    longest_row_tokens: int
    shared_start: int
    layers: int
    head_learns: bool
    is_left_to_peft: bool
    drops: bool

    @property
    def trains_model(self) -> bool:
        return self.method.saves == "model"

    @property
    def recomputed_learning(self) -> int:
        """Of the layers that are computed again those that keep something."""
        return max(0, self.recomputed - (self.shape.layers - self.layers))

    @property
    def all_inputs(self) -> int:
        """Numbers that go into the linear layers of one layer, for each token."""
        return sum(inputs for inputs, _ in self.shape.linear_sizes)

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
        return 4 * self.shape.vocabulary * self.shape.width if self.head_learns else 0.0


@dataclass(frozen=True)
class CpuPasses(Passes):
    """The passes on a processor; all that comes and goes counts, because the process seldom gives back so quickly.

    Attributes:
        bends_logits: Whether the model bends its logits, so that the head's gradient is not filtered.
    """

    device = "cpu"

    bends_logits: bool

    @property
    def activations(self) -> float:
        """Bytes that all layers together leave for the backward pass; at any time at least one is whole."""
        again = self.recomputed_learning
        whole = max(1, self.layers - again)
        return self.tokens * (whole * self._of_token + again * self.shape.width * 4)

    @property
    def peak(self) -> float:
        """Bytes at most."""
        head = self.logits + self.of_head + self._filter
        return self.activations + self.gradients + head + self._workspace

    @property
    def _of_token(self) -> float:
        """What one token leaves in one layer.

        Two norms keep their input in fp32, and where they are compiled its normalized form; the linear layers their inputs
        (query, key and value share one, gate and up another, unless PEFT adds the adapter: then each has a copy, and where
        some are dropped an fp32 number that says which); the feed-forward gate, its activation and up.
        """
        shape, number = self.shape, self.number
        norms = 2 * (4 + (number if self.config.compile else 0)) * shape.width
        copies = self.base == "int8" or (
            self.is_left_to_peft and (number == 2 or self.base == "nf4")
        )
        readers = 5 if copies else 2
        inputs = number * (readers * shape.width + shape.query + shape.inner)
        if self.drops:
            inputs = (number + 4) * self.all_inputs
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
        if self.number == 4 or self.of_head or self.bends_logits:
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
