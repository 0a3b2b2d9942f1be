"""What the forward and backward pass of a micro-batch take at most on a graphics card.

It is what is allocated there; ``tests/simulated_card.py`` counts the same with the code of a run.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.facts import SUPERVISED_SHARE
from workbench.passes import Passes

# Of general examples all logits are there at once: as probabilities, and the gradients of these and of the logits.
GENERAL_LOGIT_BYTES = 12
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
class CardPasses(Passes):
    """The passes on a graphics card.

    Attributes:
        uses_liger: Whether norms and feed-forward parts are Liger kernels.
        follows_another: Whether gradients of an earlier micro-batch of the step are there already.
        general_tokens: Of a micro-batch of general examples, which come after all others; 0 without any.
    """

    device = "cuda"

    uses_liger: bool
    follows_another: bool
    general_tokens: float

    @property
    def activations(self) -> float:
        """Bytes that all layers together leave for the backward pass."""
        return self._kept(self.tokens, self.shared_start)

    @property
    def peak(self) -> float:
        """Bytes at most."""
        earlier = self.gradients if self.follows_another else 0.0
        own = self._most(self.tokens, self.shared_start, self.logits, earlier)
        if not self.general_tokens:
            return own
        logits = GENERAL_LOGIT_BYTES * SUPERVISED_SHARE * self.general_tokens
        logits *= self.shape.vocabulary
        return max(own, self._most(self.general_tokens, 0, logits, self.gradients))

    def _most(self, tokens: float, shared_start: int, logits: float, earlier: float) -> float:
        """Return what a micro-batch takes where layers end, at the logits, or where the backward pass begins or ends.

        Args:
            tokens: Of the micro-batch.
            shared_start: Of them, those that all rows begin with.
            logits: Bytes of its logits that are there at once, and of what is made of them.
            earlier: Bytes of the gradients that are there already.
        """
        again, layer = self.recomputed_learning, self._of_layer(tokens, shared_start)
        kept = self._kept(tokens, shared_start)
        in_turn = again * self._entering(tokens) + layer if again else 0
        # Autocast forgets the copies of weights when the last layer has computed, those of layers computed twice, too.
        layers_end = earlier + kept + again * self._copied_weights
        at_logits = earlier + kept + logits + self.of_head + self._copied_head
        unpacked = 0 if self.base == "plain" else self.number * self.shape.width * self.shape.inner
        copies = tokens * self.number * 2 * self.shape.inner + unpacked
        begins = earlier + max(kept, in_turn) + self.of_head + copies
        # Where head and embeddings are one, or have a gradient, the new one stands beside it before it is added.
        twice = self.of_head * (self.shape.tied + bool(earlier))
        ends = self.gradients + layer + copies + twice
        return max(layers_end, at_logits, begins, ends)

    def _kept(self, tokens: float, shared_start: int) -> float:
        again = self.recomputed_learning
        whole = (self.layers - again) * self._of_layer(tokens, shared_start)
        return whole + again * self._entering(tokens)

    def _entering(self, tokens: float) -> float:
        """Return what goes from layer to layer; it is fp32 where the model itself learns."""
        return tokens * self.shape.width * (4 if self.trains_model else self.number)

    def _of_layer(self, tokens: float, shared_start: int) -> float:
        """Return what a layer leaves: of its tokens, keys and values of a shared start for each row, copies of weights."""
        copied_keys = 0.0
        if shared_start:
            rows = (tokens - shared_start) / max(1, self.longest_row_tokens - shared_start)
            copied_keys = self.number * 2 * self.shape.key_value * rows * shared_start
        return tokens * self._of_token + copied_keys + self._copied_weights

    @property
    def _copied_weights(self) -> float:
        """What a layer has of its fp32 weights, or of its adapters, in the format that computes."""
        if self.number == 4:
            return 0.0
        if self.trains_model:
            return self.number * self.shape.layer_weights
        return self.number * self.gradients / 4 / self.shape.layers

    @property
    def _copied_head(self) -> float:
        """The head in the format that computes, where the model is fp32."""
        copies = self.trains_model and self.number < 4
        return self.number * self.shape.vocabulary * self.shape.width if copies else 0.0

    @property
    def _of_token(self) -> float:
        """What one token leaves in one layer.

        Where an adapter learns, a norm keeps its input in fp32, or as it came (Liger); the linear layers that read the
        same share it, and the last one of attention shares what attention keeps. Where the model learns, inputs of norms
        are fp32, and their normalized form is kept for the weights of the norm. In bf16 each linear layer has a copy of its
        input there, and where PEFT adds the adapter to a plain one. Liger forgets the activation of the feed-forward gate.
        """
        shape, number = self.shape, self.number
        attention = number * 2 * (shape.query + shape.key_value)
        gate = number * (2 if self.uses_liger else 3) * shape.inner
        from_fp32 = self.trains_model or (self.is_left_to_peft and self.base == "plain")
        shared = 5 * shape.width + shape.query if from_fp32 and number < 4 else 2 * shape.width
        inputs = number * (shared + shape.inner)
        if self.drops:  # what is left of them, and a byte that says which
            inputs = (number + 1) * self.all_inputs
        if self.trains_model:
            norms, between = 2 * (4 if self.uses_liger else 8) * shape.width, 0
        else:
            norms = 2 * (number if self.uses_liger else 4) * shape.width
            between = 7 * number * self.config.lora_rank  # the two matrices of each adapter
        return norms + attention + gate + inputs + between
