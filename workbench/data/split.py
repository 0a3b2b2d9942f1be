"""Hold some examples back, so that the validation loss means something."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def held_back_rows(count: int, validation_share: float) -> int:
    """Return how many of ``count`` rows validate; at least one stays to train on."""
    return min(count - 1, max(1, round(count * validation_share))) if validation_share else 0


def split_indices(count: int, validation_share: float, seed: int) -> tuple[list[int], list[int]]:
    """Choose which rows train and which validate; the same arguments give the same choice.

    Args:
        count: Number of rows.
        validation_share: Between 0 and 0.5; any share above 0 holds back at least one row of two.
        seed: Of the choice.

    Returns:
        Row indices to train on and to validate on, each ascending and together complete.
    """
    validation = set(
        random.Random(seed).sample(range(count), held_back_rows(count, validation_share))
    )
    return [i for i in range(count) if i not in validation], sorted(validation)


def pick(items: Sequence[Item], indices: Sequence[int]) -> list[Item]:
    """Return the items at ``indices``."""
    return [items[index] for index in indices]
