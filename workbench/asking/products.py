"""The values of one token, or of a few, times a layer's weights, in the fastest way this CPU has.

Nothing but the reading of the weights takes time here, and which call reads them fastest is not what one expects: on 2
cores of an EPYC with AVX512-BF16, torch 2.13 takes 13 ms for the starter's 538 MB of float32 as a batch of parts, 44 ms as
the one matrix they are, and 18 or 26 ms for half as many bytes in bf16. Other processors differ, so it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from workbench.compute import CLEARLY_FASTER

PARTS = 4
TRIAL_WEIGHTS = 40_000_000  # as many are larger than the caches of most processors
TRIAL_REPEATS = 5


def in_parts(weight: Tensor, x: Tensor) -> Tensor:
    """Multiply (outputs, inputs) with float32 (rows, inputs), some outputs beside each other, to float32 (rows, outputs)."""
    outputs, inputs = weight.shape
    if outputs % PARTS or weight.dtype != torch.float32:
        return as_rows(weight, x)
    parts = weight.view(PARTS, outputs // PARTS, inputs)
    made = torch.bmm(parts, x.T.expand(PARTS, inputs, len(x)))
    return made.view(outputs, len(x)).T.contiguous()


def as_rows(weight: Tensor, x: Tensor) -> Tensor:
    """Do the same, as a matrix with a matrix."""
    return linear(x.to(weight.dtype), weight).float()


def as_vectors(weight: Tensor, x: Tensor) -> Tensor:
    """Do the same, as a matrix with one vector after the other."""
    return torch.stack([torch.mv(weight, row) for row in x.to(weight.dtype)]).float()


@dataclass(frozen=True)
class Way:
    """How to keep the weights, and how to multiply with them."""

    dtype: torch.dtype
    times: Callable[[Tensor, Tensor], Tensor]


WAYS = (
    Way(torch.float32, in_parts),
    Way(torch.float32, as_rows),
    Way(torch.bfloat16, as_rows),
    Way(torch.bfloat16, as_vectors),
)


def usual_way(dtype: torch.dtype) -> Way:
    """Return a way that is rarely far from the fastest for weights that are kept so, without a trial."""
    return WAYS[0] if dtype == torch.float32 else WAYS[2]


def fastest_way(dtypes: Sequence[torch.dtype], width: int, inner_width: int) -> Way:
    """Try the ways to keep weights in one of these formats, and return the fastest; the exact one unless it is clearly slower.

    Args:
        dtypes: float32, bfloat16 or both.
        width: Of the model whose weights they are; the shapes count.
        inner_width: Of its feed-forward layers.
    """
    ways = [way for way in WAYS if way.dtype in dtypes]
    layers = max(1, round(TRIAL_WEIGHTS / (3 * width * inner_width)))
    shapes = [(2 * inner_width, width), (width, inner_width)] * layers
    weights = {dtype: [torch.ones(shape, dtype=dtype) for shape in shapes] for dtype in dtypes}
    values = {size: torch.ones(1, size) for size in (width, inner_width)}
    best = dict.fromkeys(ways, float("inf"))
    with torch.inference_mode():
        for _ in range(TRIAL_REPEATS):  # in turns, so that what disturbs one disturbs all
            for way in ways:
                started = time.perf_counter()
                for weight in weights[way.dtype]:
                    way.times(weight, values[weight.shape[1]])
                best[way] = min(best[way], time.perf_counter() - started)
    return min(
        ways,
        key=lambda way: best[way] * (1 if way.dtype == torch.float32 else CLEARLY_FASTER),
    )
