"""Attention of a padding-free micro-batch in bf16 on a CPU: matrix products, a block of queries at a time.

PyTorch's kernel for CPUs computes every score of fewer than 512 tokens, those of the future too, and in bf16 it is
slower than in fp32. Here a block of queries sees the keys up to its own end, and queries, keys, scores and their softmax
are fp32, the rest bf16. (Forward and backward for 9 heads, on 2 cores with AVX512-BF16 and torch 2.13; here, and the kernel in fp32:
1.2 and 1.9 ms for 115 tokens, 2.6 and 4.0 for 200, 11.5 and 22 for 500, 62 and 190 for 1,600.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from workbench.passes import BLOCK_TOKENS, MOST_KEPT_KEYS


class Block(NamedTuple):
    """Queries that are computed together, and the keys that the last of them sees.

    Attributes:
        first: Position of the first query in the micro-batch.
        end: Behind the last one.
        begin: Where their sequence begins.
        shared: Length of the start of the micro-batch that their sequence goes on from.
        keys_begin: Where the keys begin, the shared ones first, when each sequence has all of its own.
    """

    first: int
    end: int
    begin: int
    shared: int
    keys_begin: int

    @property
    def keys(self) -> slice:
        return slice(self.keys_begin, self.keys_begin + self.shared + self.end - self.begin)

    def add_to_keys(self, states: torch.Tensor, part: torch.Tensor) -> None:
        """Add something for each key to (heads, tokens, size)."""
        if self.shared:
            states[:, : self.shared] += part[:, : self.shared]
        states[:, self.begin : self.end] += part[:, self.shared :]


def blocks(lengths: Sequence[int], shared_start: int) -> list[Block]:
    """Cut sequences into blocks of about the same size."""
    cut: list[Block] = []
    begin = keys_begin = 0
    for length in lengths:
        shared = shared_start if begin else 0
        count = math.ceil(length / BLOCK_TOKENS)
        ends = [begin + length * (i + 1) // count for i in range(count)]
        for first, end in zip([begin, *ends], ends, strict=False):
            cut.append(Block(first, end, begin, shared, keys_begin))
        begin += length
        keys_begin += shared + length
    return cut


def of_each_sequence(
    states: torch.Tensor, lengths: Sequence[int], shared_start: int
) -> torch.Tensor:
    """Return (heads, tokens, size) with the shared start before each sequence, as ``Block.keys`` counts."""
    if not shared_start:
        return states
    shared, *others = states.split(lengths, dim=1)
    return torch.cat([shared, *(part for own in others for part in (shared, own))], dim=1)


def block_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Sequence[int],
    shared_start: int,
    scaling: float,
) -> torch.Tensor:
    """Attend within each sequence, causally.

    Args:
        query: (1, heads, tokens, head size).
        key: (1, key-value heads, tokens, head size).
        value: (1, key-value heads, tokens, size of values); all but the scores is computed in its number format.
        lengths: Tokens of each sequence, in order; they sum to ``tokens``.
        shared_start: Length of the first sequence if all others go on from it; else 0.
        scaling: Factor on the scores.

    Returns:
        (1, tokens, heads, size of values), in the number format of ``value``.
    """
    attended: torch.Tensor = _BlockAttention.apply(
        query, key, value, lengths, shared_start, scaling, torch.is_grad_enabled()
    )
    return attended


class _BlockAttention(torch.autograd.Function):
    """The query heads that share a key-value head are rows of one matrix: (key-value heads, tokens x sharing, size)."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        lengths: Sequence[int],
        shared_start: int,
        scaling: float,
        learns: bool,
    ) -> torch.Tensor:
        sharing, cut = query.shape[1] // key.shape[1], blocks(lengths, shared_start)
        queries = _as_rows(query[0], sharing).float()
        # Keys have fewer heads than queries, so they are what is scaled.
        scaled_keys = key[0].float() * scaling
        keys = of_each_sequence(scaled_keys, lengths, shared_start)
        # Weights sum to one: what all values have in common is added afterwards, and bf16 keeps more digits of the rest.
        common = value[0].mean(dim=1, keepdim=True)
        centred = value[0] - common
        values = of_each_sequence(centred, lengths, shared_start)
        attended = values.new_empty(*queries.shape[:2], values.shape[-1])
        kept: list[torch.Tensor | None] = []
        for block in cut:
            weights = _weights(queries, keys, block, sharing, value.dtype)
            torch.bmm(weights, values[:, block.keys], out=attended[:, _rows(block, sharing)])
            is_kept = learns and weights.shape[-1] <= MOST_KEPT_KEYS
            kept.append(weights if is_kept else None)
        ctx.save_for_backward(queries, scaled_keys, centred, attended, *kept)
        ctx.cut, ctx.sharing, ctx.scaling = cut, sharing, scaling
        ctx.lengths, ctx.shared_start = lengths, shared_start
        return _as_heads(attended + common, sharing).transpose(0, 1).contiguous()[None]

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, of_result: torch.Tensor) -> tuple[Any, ...]:
        queries, key, value, attended, *kept = ctx.saved_tensors
        sharing, low = ctx.sharing, value.dtype
        keys, values = (of_each_sequence(x, ctx.lengths, ctx.shared_start) for x in (key, value))
        given = _as_rows(of_result[0].transpose(0, 1), sharing)
        inner = (given * attended).sum(dim=-1, keepdim=True)
        of_queries = torch.empty_like(queries, dtype=low)
        of_keys, of_values = torch.zeros_like(key), torch.zeros_like(value, dtype=torch.float32)
        for block, weights in zip(ctx.cut, kept, strict=True):
            if weights is None:
                weights = _weights(queries, keys, block, sharing, low)
            rows = _rows(block, sharing)
            of_rows = given[:, rows].contiguous()
            block.add_to_keys(of_values, torch.bmm(weights.mT, of_rows))
            # The softmax's own gradient (FlashAttention, arXiv 2205.14135, appendix B.2).
            of_scores = torch.bmm(of_rows, values[:, block.keys].mT)
            of_scores.sub_(inner[:, rows]).mul_(weights)
            block.add_to_keys(of_keys, torch.bmm(of_scores.mT, queries[:, rows].to(low)))
            torch.bmm(of_scores, keys[:, block.keys].to(low), out=of_queries[:, rows])
        of_query, of_key = _as_heads(of_queries, sharing), of_keys.mul_(ctx.scaling)
        return of_query[None], of_key[None], of_values[None], None, None, None, None


def _as_rows(states: torch.Tensor, sharing: int) -> torch.Tensor:
    """Return (heads, tokens, size) as (key-value heads, tokens x sharing, size)."""
    return states.unflatten(0, (-1, sharing)).transpose(1, 2).flatten(1, 2)


def _as_heads(rows: torch.Tensor, sharing: int) -> torch.Tensor:
    """Undo ``_as_rows``."""
    return rows.unflatten(1, (-1, sharing)).transpose(1, 2).flatten(0, 1)


def _rows(block: Block, sharing: int) -> slice:
    return slice(block.first * sharing, block.end * sharing)


def _weights(
    queries: torch.Tensor, keys: torch.Tensor, block: Block, sharing: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return how much each query of a block takes of each key.

    Args:
        queries: float32 (key-value heads, tokens x sharing, size).
        keys: float32 (key-value heads, keys of all sequences, size), scaled.
        block: Which of them.
        sharing: How many query heads share a key-value head.
        dtype: The number format of the result.

    Returns:
        (key-value heads, block's tokens x sharing, block's keys).
    """
    scores = torch.bmm(queries[:, _rows(block, sharing)], keys[:, block.keys].mT)
    count = block.end - block.first
    scores.unflatten(1, (count, sharing))[..., -count:].masked_fill_(_future(count), -torch.inf)
    return torch.softmax(scores, dim=-1).to(dtype)


@cache
def _future(count: int) -> torch.Tensor:
    """Return which of ``count`` keys come after which of as many queries: bool (queries, 1, keys)."""
    return torch.ones(count, count, dtype=torch.bool).triu(1)[:, None]
