"""The model's last layer and its loss, some tokens at a time.

The head is the model's largest layer, and its logits the largest thing in memory: a number for every token
and every word of the vocabulary. Here they are made for a slice of the supervised tokens, turned into their
loss and their gradient in place, and forgotten; nothing of them waits for the backward pass. (The idea is in
torchtune, in Liger Kernel, arXiv 2410.10989, and in Cut Cross-Entropy, arXiv 2411.09009.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from workbench.passes import PIECE_NUMBERS, SLICE_TOKENS
from workbench.training.gradient_filter import GradientFilter

# What models do to their logits, by the name of the setting (transformers 5.23): Cohere and Falcon-H1 multiply,
# Granite divides, Gemma bends them by a tanh.
FACTORS, DIVISORS = ("logit_scale", "lm_head_multiplier"), ("logits_scaling",)
SOFTCAP = "final_logit_softcapping"


@dataclass(frozen=True)
class Head:
    """The layer that makes logits of hidden states, and what the model does to them afterwards.

    Attributes:
        layer: A plain linear layer, (width) to (vocabulary).
        scale: A factor on all logits.
        softcap: Logits are bent to stay within plus or minus this; 0 is not at all.
    """

    layer: torch.nn.Linear
    scale: float = 1.0
    softcap: float = 0.0

    @classmethod
    def of(cls, model: Any) -> Head | None:
        """Return the head of a model, or ``None`` where it is no plain linear layer."""
        layer = model.get_output_embeddings()
        if type(layer) is not torch.nn.Linear:
            return None
        config = model.config.get_text_config()
        scale = 1.0
        for name in FACTORS:
            scale *= getattr(config, name, None) or 1.0
        for name in DIVISORS:
            scale /= getattr(config, name, None) or 1.0
        return cls(layer, scale, getattr(config, SOFTCAP, None) or 0.0)

    @contextmanager
    def catch_hidden_states(self) -> Iterator[list[torch.Tensor]]:
        """Catch what comes to the layer, and let it compute logits of nothing, while the block runs."""
        caught: list[torch.Tensor] = []

        def catch(layer: torch.nn.Module, arguments: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            caught.append(arguments[0])
            return (arguments[0][:0],)

        hook = self.layer.register_forward_pre_hook(catch)
        try:
            yield caught
        finally:
            hook.remove()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 (tokens, vocabulary) for hidden states (tokens, width)."""
        weight, bias = self.layer.weight, self.layer.bias
        logits = linear(hidden, weight.to(hidden.dtype), _as(bias, hidden.dtype)).float()
        logits = logits * self.scale if self.scale != 1 else logits
        return self.softcap * torch.tanh(logits / self.softcap) if self.softcap else logits


@dataclass(frozen=True)
class Cost:
    """What a model's predictions cost.

    Attributes:
        loss: The sum of the token losses, a float32 scalar with a gradient.
        correct: How many next tokens were the likeliest, an int64 scalar.
    """

    loss: torch.Tensor
    correct: torch.Tensor


def sliced_cross_entropy(
    head: Head, hidden: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> Cost:
    """Return the summed cross-entropy of hidden states, as ``cross_entropy`` of their logits gives it.

    Args:
        head: The head of the model.
        hidden: (tokens, width), in the number format the head computes in.
        targets: int64 (tokens,).
        label_smoothing: Share of the target spread over all words.
    """
    slice_tokens = SLICE_TOKENS[hidden.device.type]
    # Within the function no gradient is ever wanted, and ``needs_input_grad`` also holds while nothing learns.
    learns = torch.is_grad_enabled()
    layer = head.layer
    loss, correct = _SlicedCrossEntropy.apply(
        hidden, layer.weight, layer.bias, targets, head, label_smoothing, slice_tokens, learns
    )
    return Cost(loss, correct)


class _SlicedCrossEntropy(torch.autograd.Function):
    """Works out the gradient in the forward pass, while a slice's logits are there."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        head: Head,
        smoothing: float,
        slice_tokens: int,
        learns: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted = [learns and needed for needed in ctx.needs_input_grad[:3]]
        gradients = [
            torch.zeros_like(tensor) if want else None
            for tensor, want in zip((hidden, weight, bias), wanted, strict=True)
        ]
        of_hidden, of_weight, of_bias = gradients
        weight_now, bias_now = weight.to(hidden.dtype), _as(bias, hidden.dtype)
        can_filter = of_hidden is not None and of_weight is None and _can_filter(hidden, head)
        gradient_filter = GradientFilter(weight_now) if can_filter else None
        loss = torch.zeros((), device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        for part in slices(len(targets), slice_tokens):
            logits = linear(hidden[part], weight_now, bias_now)
            slopes = logits  # each piece of them becomes its slope where it is
            for piece in slices(len(logits), _piece_tokens(logits)):
                cost, right, slope = _loss_and_slope(
                    logits[piece].float(), targets[part][piece], head, smoothing, any(wanted)
                )
                loss += cost
                correct += right
                if slope is None:
                    continue
                slopes[piece] = slope
                if gradient_filter is not None:
                    gradient_filter.note(slope)
                if of_bias is not None:
                    of_bias += slope.sum(dim=0)
            if of_hidden is not None and gradient_filter is not None:
                gradient_filter.multiply(slopes, out=of_hidden[part])
            elif of_hidden is not None:
                torch.mm(slopes, weight_now, out=of_hidden[part])
            if of_weight is not None:
                of_weight += slopes.T @ hidden[part]
            del logits, slopes  # or they would still be there while the next slice's are made
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_loss: torch.Tensor, of_correct: Any) -> tuple[Any, ...]:
        gradients = [None if g is None else g.mul_(of_loss) for g in ctx.saved_tensors]
        return (*gradients, None, None, None, None, None)


def _loss_and_slope(
    logits: torch.Tensor, targets: torch.Tensor, head: Head, smoothing: float, wanted: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return summed loss, correct predictions, and the loss's slope by the layer's output, if wanted.

    Args:
        logits: float32 (tokens, vocabulary), as the layer gave them.
        targets: int64 (tokens,).
        head: What the model does to them.
        smoothing: Share of the target spread over all words.
        wanted: Whether to return the slope.
    """
    bend = None
    if head.scale != 1:
        logits = logits * head.scale
    if head.softcap:
        bent = torch.tanh(logits / head.softcap)
        bend = 1 - bent.square() if wanted else None
        logits = head.softcap * bent
    columns = targets[:, None]
    highest, predicted = logits.max(dim=-1, keepdim=True)
    of_target = logits.gather(-1, columns)
    mean = logits.mean(dim=-1, keepdim=True) if smoothing else 0.0
    shares = torch.softmax(logits, dim=-1)
    # The likeliest word's share is one over the sum of all, so no second pass of exponentials is needed.
    log_sum = highest - shares.amax(dim=-1, keepdim=True).log()
    cost = (log_sum - (1 - smoothing) * of_target - smoothing * mean).sum()
    right = (predicted == columns).sum()
    if not wanted:
        return cost, right, None
    shares.scatter_add_(-1, columns, torch.full_like(of_target, smoothing - 1))
    if smoothing:
        shares.sub_(smoothing / shares.shape[-1])
    if bend is not None:
        shares.mul_(bend)
    return cost, right, shares.mul_(head.scale) if head.scale != 1 else shares


def _can_filter(hidden: torch.Tensor, head: Head) -> bool:
    """Say whether rounding hides what a filter leaves out, and slopes sum to zero, as bent logits' do not."""
    is_bf16_on_cpu = hidden.device.type == "cpu" and hidden.dtype == torch.bfloat16
    return is_bf16_on_cpu and not head.softcap


def slices(count: int, size: int) -> Iterator[slice]:
    """Cut a range into slices of at most ``size``."""
    return (slice(first, first + size) for first in range(0, count, size))


def _piece_tokens(logits: torch.Tensor) -> int:
    """Return how many tokens' logits are worked on at once."""
    return max(1, PIECE_NUMBERS[logits.device.type] // logits.shape[-1])


def _as(tensor: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if tensor is None else tensor.to(dtype)
