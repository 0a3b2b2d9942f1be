"""From the examples of one step to micro-batches of bounded size.

The person chooses examples per step; memory decides how many tokens fit at once. A step is split
here, and its gradient does not depend on how: every loss is divided by the supervised tokens of the
whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from workbench.errors import StopRequested
from workbench.models.rendering import IGNORED, TokenizedExample, same_start


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass takes.

    Attributes:
        inputs: Keyword arguments of the model; tensors are int64.
        supervised: bool (rows, tokens); where the *next* token is supervised.
        targets: int64 (supervised positions,); those next tokens.
        tokens: Tokens that are computed, without padding; those that all examples begin with count once.
        examples: What it was made of, in the order of ``supervised`` and ``targets``.
    """

    inputs: dict[str, object]
    supervised: torch.Tensor
    targets: torch.Tensor
    tokens: int
    examples: Sequence[TokenizedExample]


def supervised_tokens(examples: Sequence[TokenizedExample]) -> int:
    """Return how many tokens of a step the loss counts."""
    return sum(example.supervised_tokens for example in examples)


def micro_batches(
    examples: Sequence[TokenizedExample], token_budget: int, *, padded: bool, pad_id: int
) -> Iterator[MicroBatch]:
    """Split one step into micro-batches that compute at most ``token_budget`` tokens.

    An example longer than the budget is a micro-batch of its own.

    Args:
        examples: All examples of the step.
        token_budget: Upper bound of tokens in one forward pass; padding counts, what all begin with counts once.
        padded: Rows filled up to one length, for models that cannot run padding-free.
        pad_id: What fills up; never decides what is supervised.
    """
    by_length = sorted(examples, key=lambda example: len(example.input_ids))
    group: list[TokenizedExample] = []
    for example in by_length:
        if group and _size([*group, example], padded) > token_budget:
            yield _make(group, padded, pad_id)
            group = []
        group.append(example)
    if group:
        yield _make(group, padded, pad_id)


def until_stopped(
    batches: Iterable[MicroBatch], stop_requested: Callable[[], bool]
) -> Iterator[MicroBatch]:
    """Yield micro-batches until the person asks to stop.

    Raises:
        StopRequested: They did.
    """
    for batch in batches:
        if stop_requested():
            raise StopRequested
        yield batch


def _size(group: list[TokenizedExample], padded: bool) -> int:
    """Return how many tokens are computed for examples of which the last is the longest."""
    if padded:
        return len(group[-1].input_ids) * len(group)
    return sum(len(e.input_ids) for e in group) - _shared_start(group) * (len(group) - 1)


def _make(group: list[TokenizedExample], padded: bool, pad_id: int) -> MicroBatch:
    return _padded(group, pad_id) if padded else _packed(group)


def _packed(group: list[TokenizedExample]) -> MicroBatch:
    """One row: what all examples begin with, once, then the rest of each; positions go on from there."""
    shared = _shared_start(group)
    first = group[0]
    rows = [(first.input_ids[:shared], [IGNORED] * shared, 0)] if shared else []
    rows += [(e.input_ids[shared:], [*e.labels[shared + 1 :], IGNORED], shared) for e in group]
    lengths = [len(ids) for ids, _, _ in rows]
    supervised = (labels := torch.tensor([[x for _, row, _ in rows for x in row]])) != IGNORED
    inputs = {
        "input_ids": torch.tensor([[token for ids, _, _ in rows for token in ids]]),
        "position_ids": torch.cat([torch.arange(at, at + len(ids)) for ids, _, at in rows])[None],
        "sequence_lengths": lengths,
        "shared_start": shared,
    }
    return MicroBatch(inputs, supervised, labels[supervised], sum(lengths), tuple(group))


def _shared_start(group: list[TokenizedExample]) -> int:
    """Return how many tokens all examples begin with: the system prompt, often the question's first words.

    A model that reads from left to right makes the same of them in every row, so they are computed once, and
    their gradient is the sum over the rows. What predicts a row's first supervised token is the row's own.
    """
    if len(group) == 1:
        return 0
    supervised = (
        next((at for at, label in enumerate(e.labels) if label != IGNORED), len(e.labels))
        for e in group
    )
    same = same_start([example.input_ids for example in group])
    return min(same, max(0, min(supervised) - 1))


def _padded(group: list[TokenizedExample], pad_id: int) -> MicroBatch:
    """One row per sequence, filled up on the right."""
    width = max(len(example.input_ids) for example in group)
    input_ids = torch.full((len(group), width), pad_id)
    labels = torch.full((len(group), width), IGNORED)
    mask = torch.zeros((len(group), width), dtype=torch.int64)
    for row, example in enumerate(group):
        length = len(example.input_ids)
        input_ids[row, :length] = torch.tensor(example.input_ids)
        labels[row, : length - 1] = torch.tensor(example.labels[1:])
        mask[row, :length] = 1
    supervised = labels != IGNORED
    inputs: dict[str, object] = {"input_ids": input_ids, "attention_mask": mask}
    return MicroBatch(inputs, supervised, labels[supervised], int(mask.sum()), tuple(group))
