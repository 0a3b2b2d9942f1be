"""Attention for a padding-free micro-batch on a graphics card: one call for all of its sequences.

The kernel of ``torch.nn.attention.varlen`` (torch 2.13) is told where each sequence begins and ends. What all of
them begin with stands once among the queries and before each sequence's own keys. Causal then counts from the
end, as in Flash Attention 2.1 and later: the last query of a sequence sees all of its keys.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface

from workbench.compute import Compute
from workbench.training.attention import passed_on, per_sequence_attention

NAME = "workbench_varlen"
CAUSAL = (-1, 0)  # as far back as there is, nothing ahead
OLDEST_CAPABILITY = (8, 0)  # Ampere; Flash Attention has nothing for older cards
# The probe's sequences: one token, lengths around the kernel's blocks of 64 and 128, and what all others go on from.
PROBE_LENGTHS = [70, 1, 63, 130, 200]
# How far result and gradients may be from fp32, as a share of their norm; bf16 rounds by 0.4 %, and a mask that is
# wrong shows as a third and more.
TOLERANCE = 0.03

Kernel = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Bounds:
    """Where the sequences of a micro-batch begin and end, for the kernel.

    Attributes:
        queries: int32 (sequences + 1,); where each one's queries begin, and the end.
        keys: The same for keys.
        key_places: int64 (keys,); which token of the row each key is. ``None`` where they are the same.
        most_queries: Of one sequence.
        most_keys: Of one sequence.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    key_places: torch.Tensor | None
    most_queries: int
    most_keys: int


# Every layer asks for those of the same micro-batch, forward and backward.
@functools.lru_cache(maxsize=2)
def bounds_of(lengths: tuple[int, ...], shared_start: int, device: torch.device) -> Bounds:
    """Return the bounds of sequences that follow each other in one row.

    Args:
        lengths: Tokens of each sequence, in order.
        shared_start: Length of the first sequence if all others go on from it; else 0.
        device: Where the kernel runs.
    """
    starts = [0, *accumulate(lengths)]
    key_lengths = [lengths[0], *(shared_start + length for length in lengths[1:])]
    places = None
    if shared_start:
        own = [torch.arange(at, at + n) for at, n in zip(starts, lengths, strict=False)]
        start, *rests = own
        places = torch.cat([start, *(torch.cat([start, rest]) for rest in rests)]).to(device)
    queries, keys = (
        torch.tensor(ends, dtype=torch.int32, device=device)
        for ends in (starts, [0, *accumulate(key_lengths)])
    )
    return Bounds(queries, keys, places, max(lengths), max(key_lengths))


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sequence_lengths: list[int] | None = None,
    shared_start: int = 0,
    kernel: Kernel = varlen_attn,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each sequence, causally, in bf16 and without dropout.

    ``kernel`` is called once, as ``varlen_attn``; all else is as in ``per_sequence_attention``.
    """
    bounds = bounds_of(tuple(passed_on(sequence_lengths)), shared_start, query.device)
    # The kernel wants (tokens, heads, head size).
    queries, keys, values = (
        states[0].transpose(0, 1).to(torch.bfloat16) for states in (query, key, value)
    )
    if bounds.key_places is not None:
        keys, values = keys[bounds.key_places], values[bounds.key_places]
    attended = kernel(
        queries,
        keys,
        values,
        bounds.queries,
        bounds.keys,
        bounds.most_queries,
        bounds.most_keys,
        scale=scaling,
        window_size=CAUSAL,
        enable_gqa=keys.shape[1] != queries.shape[1],
    )
    return attended[None].to(query.dtype), None


def register(kernel: Kernel = varlen_attn) -> None:
    """Make the attention known to transformers under ``NAME``; it builds no mask."""
    AttentionInterface.register(NAME, functools.partial(varlen_attention, kernel=kernel))
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


def why_not(compute: Compute, architecture: Any, kernel: Kernel = varlen_attn) -> str:
    """Try the kernel once, and return why it cannot be used, as the end of a sentence; empty if it can.

    Args:
        compute: Device and precision.
        architecture: The model's config; its heads are tried.
        kernel: As ``varlen_attn``.
    """
    if compute.precision != "bf16":
        return "works in bf16 only"
    if compute.device == "cuda" and torch.cuda.get_device_capability() < OLDEST_CAPABILITY:
        return "needs a newer one"
    sizes = architecture.get_text_config()
    heads = sizes.num_attention_heads
    key_heads = getattr(sizes, "num_key_value_heads", None) or heads
    size = getattr(sizes, "head_dim", None) or sizes.hidden_size // heads
    try:
        error = max(
            _error(kernel, compute, (heads, key_heads, size), s) for s in (0, PROBE_LENGTHS[0])
        )
    except (RuntimeError, ValueError, TypeError) as problem:
        return f"does not work here ({(str(problem).splitlines() or [''])[0][:200]})"
    return "" if error <= TOLERANCE else "does not give the right result here"


def _error(
    kernel: Kernel, compute: Compute, heads: tuple[int, int, int], shared_start: int
) -> float:
    """Return how far the kernel is from attention one sequence at a time, in result and gradients.

    Args:
        kernel: As ``varlen_attn``.
        compute: Device and precision.
        heads: How many of queries and of keys, and their size.
        shared_start: Of the probe's sequences.
    """
    generator = torch.Generator().manual_seed(0)
    number, key_number, size = heads
    shapes = [(1, n, sum(PROBE_LENGTHS), size) for n in (number, key_number, key_number)]
    states = [torch.randn(s, generator=generator).to(compute.device, compute.dtype) for s in shapes]
    weights = torch.randn((1, sum(PROBE_LENGTHS), number, size), generator=generator)

    def outcome(attend: Callable[..., tuple[torch.Tensor, None]]) -> list[torch.Tensor]:
        leaves = [state.clone().requires_grad_() for state in states]
        result, _ = attend(
            torch.nn.Identity(),
            *leaves,
            None,
            sequence_lengths=PROBE_LENGTHS,
            shared_start=shared_start,
        )
        gradients = torch.autograd.grad((result.float() * weights.to(compute.device)).sum(), leaves)
        return [result.detach().float(), *(gradient.float() for gradient in gradients)]

    ours = outcome(functools.partial(varlen_attention, kernel=kernel))
    theirs = outcome(per_sequence_attention)
    errors = torch.stack([(a - b).norm() / b.norm() for a, b in zip(ours, theirs, strict=True)])
    return float(errors.nan_to_num(nan=torch.inf).max())
