"""What the forward and backward pass of a micro-batch take at most on a graphics card.

It is what is allocated there; ``tests/simulated_card.py`` counts the same with the code of a run.
"""

from __future__ import annotations

from dataclasses import dataclass

from workbench.passes import Passes

# All logits of general examples are there at once: as they come, in fp32, as probabilities, and their gradient.
GENERAL_LOGIT_BYTES = 14
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
        general_tokens: Of the general examples that go with a step, after all others; 0 without any.
    """

    device = "cuda"

    uses_liger: bool
    follows_another: bool
    general_tokens: float

    @property
    def activations(self) -> float:
        """Bytes that all layers together leave for the backward pass."""
        return self._kept(self.tokens)

    @property
    def peak(self) -> float:
        """Bytes at most."""
        earlier = self.gradients if self.follows_another else 0.0
        own = self._most(self.tokens, self.logits, earlier)
        if not self.general_tokens:
            return own
        logits = GENERAL_LOGIT_BYTES * self.general_tokens * self.shape.vocabulary
        return max(own, self._most(self.general_tokens, logits, self.gradients))

    def _most(self, tokens: float, logits: float, earlier: float) -> float:
        """Return what a micro-batch takes where layers end, at the logits, or where the backward pass begins or ends.

        Args:
            tokens: Of the micro-batch.
            logits: Bytes of its logits that are there at once, and of what is made of them.
            earlier: Bytes of the gradients that are there already.
        """
        kept, layer = self._kept(tokens), self._of_layer(tokens)
        in_turn = self.recomputed * self._entering(tokens) + layer if self.recomputed else 0
        # Autocast forgets the copies of weights when the last layer has computed, those of layers computed twice, too.
        layers_end = earlier + kept + self.recomputed * self._copied_weights
        of_head = self.of_head and self.of_head + self._copied_head
        at_logits = earlier + kept + logits + of_head
        unpacked = 0 if self.base == "plain" else self.number * self.shape.width * self.shape.inner
        copies = tokens * self.number * 2 * self.shape.inner + unpacked
        begins = earlier + max(kept, in_turn) + self.of_head + copies
        # Where head and embeddings are one, or have a gradient, the new one stands beside it before it is added.
        twice = self.of_head * (self.shape.tied + bool(earlier))
        ends = self.gradients + layer + copies + twice
        return max(layers_end, at_logits, begins, ends)

    def _kept(self, tokens: float) -> float:
        whole = max(0, self.layers - self.recomputed) * self._of_layer(tokens)
        return whole + self.recomputed * self._entering(tokens)

    def _entering(self, tokens: float) -> float:
        """Return what goes from layer to layer; it is fp32 where the model itself learns."""
        return tokens * self.shape.width * (4 if self.trains_model else self.number)

    def _of_layer(self, tokens: float) -> float:
        """Return what a layer leaves, its copies of weights included."""
        return tokens * self._of_token + self._copied_keys + self._copied_weights

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
        return self.number * self.shape.vocabulary * self.shape.width if self.number < 4 else 0.0

    @property
    def _copied_keys(self) -> float:
        """What a layer has of keys and values of a shared start, which every row has to itself."""
        if not self.shared_start:
            return 0.0
        own_tokens = max(1, self.longest_row_tokens - self.shared_start)
        rows = (self.tokens - self.shared_start) / own_tokens
        return self.number * 2 * self.shape.key_value * rows * self.shared_start

    @property
    def _of_token(self) -> float:
        """What one token leaves in one layer.

        Where an adapter learns, a norm keeps its input in fp32, or as it came (Liger); the linear layers that read the
        same share it, and the last one of attention shares what attention keeps. Where the model learns, inputs of norms
        are fp32, and their normalized form is kept for the weights of the norm; in bf16 each linear layer has a copy of its
        input. Liger forgets the activation of the feed-forward gate.
        """
        shape, number = self.shape, self.number
        attention = number * 2 * (shape.query + shape.key_value)
        feed_forward = number * (3 if self.uses_liger else 4) * shape.inner
        copies_inputs = self.trains_model and number < 4
        inputs = number * (5 * shape.width + shape.query if copies_inputs else 2 * shape.width)
        if self.trains_model:
            norms, adapters = 2 * (4 if self.uses_liger else 8) * shape.width, 0.0
        else:
            norms = 2 * (number if self.uses_liger else 4) * shape.width
            adapters = (
                7 * number * self.config.lora_rank + self.dropped
            )  # between their two matrices
        return norms + inputs + attention + feed_forward + adapters
