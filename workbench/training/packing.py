"""Rows that follow each other in one must be to the model what each is alone: tried once, before a run relies on it.

What a model's class and settings say of its attention may not be all: it may pass a mask of its own along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from workbench.asking.loading import standard_attention
from workbench.compute import Compute
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.training.attention import NotPassedOn, attention
from workbench.training.batches import micro_batches
from workbench.training.loss import AnswerLoss

TRIED_TOKENS = 64  # of each of two rows, about
# How far the logits may be apart, as a share of their norm. With the starter model it was 1.5 % in bf16, where the two
# ways round differently, 11 % on 8 bits, where outliers are looked for in all rows together, and over 60 % when the rows
# saw each other.
TOLERANCE = 0.25


def runs_packed(
    model: Any, compute: Compute, examples: Sequence[TokenizedExample], pad_id: int
) -> bool:
    """Say whether two rows in one have the logits that they have side by side, with the attention of transformers.

    Args:
        model: In evaluation mode, with an attention that needs no padding.
        compute: Device and precision.
        examples: The first two are tried.
        pad_id: Fills the shorter one up.
    """
    rows = [_shortened(row, TRIED_TOKENS - 9 * place) for place, row in enumerate(examples[:2])]
    loss = AnswerLoss(model, compute)

    def logits(*, padded: bool) -> torch.Tensor:
        (batch,) = micro_batches(rows, 4 * TRIED_TOKENS, padded=padded, pad_id=pad_id)
        return loss.logits(batch)

    with torch.no_grad():
        try:
            packed = logits(padded=False)
        except NotPassedOn:
            return False
        with attention(model, standard_attention(model)):
            expected = logits(padded=True)
    return bool((packed - expected).norm() <= TOLERANCE * expected.norm())


def _shortened(row: TokenizedExample, tokens: int) -> TokenizedExample:
    """Return the beginning of a row, the second half of it as its answer."""
    ids = row.input_ids[:tokens]
    return TokenizedExample(ids, [IGNORED] * (len(ids) // 2) + ids[len(ids) // 2 :])
