"""Which rows train, how often, and which are held back so that the validation loss means something."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from workbench.data.formats import Conversation
from workbench.data.labels import ROWS_PER_LABEL, LabelCounter

Item = TypeVar("Item")


def held_back_rows(count: int, validation_share: float) -> int:
    """Return how many of ``count`` rows validate; at least one stays to train on."""
    return min(count - 1, max(1, round(count * validation_share))) if validation_share else 0


def split_rows(
    conversations: Sequence[Conversation], validation_share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Choose which rows train and which validate; the same arguments give the same choice.

    Rows that ask the same question stay on one side: otherwise the model would be tested on what it
    has seen. Where answers are labels, each label is held back in proportion, and one of each that has
    ``ROWS_PER_LABEL`` rows as far as the share goes.

    Args:
        conversations: The rows.
        validation_share: Between 0 and 0.5; as near to it is held back as whole groups allow, and
            exactly ``held_back_rows`` where no question repeats.
        seed: Of the choice.

    Returns:
        Row indices to train on and to validate on, each ascending and together complete.
    """
    wanted = held_back_rows(len(conversations), validation_share)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    labels = _labels(conversations) if wanted else {}
    for rows in _rows_by_question(conversations) if wanted else []:
        answer = conversations[rows[0]]["messages"][-1]["content"]
        strata[answer if answer in labels else ""].append(rows)
    choice = random.Random(seed)
    sizes = {key: sum(map(len, groups)) for key, groups in strata.items()}
    quotas = _quotas(sizes, wanted)
    held_back: set[int] = set()
    missing = 0  # what the groups of one label left over or took too much, the next one evens out
    for key in sorted(sizes, key=lambda key: sizes[key]):  # the largest last: it can
        missing += quotas[key]
        taken = _take(strata[key], missing, len(conversations) - 1 - len(held_back), choice)
        missing -= len(taken)
        held_back.update(taken)
    return [i for i in range(len(conversations)) if i not in held_back], sorted(held_back)


def question_key(conversation: Conversation) -> int:
    """Return a hash of all that comes before the last answer; case and spacing make no difference.

    It is another one in every process.
    """
    asked = (" ".join(m["content"].casefold().split()) for m in conversation["messages"][:-1])
    return hash(tuple(asked))


def weighted_rows(count: int, weight: float) -> int:
    """Return how many rows an epoch has of a dataset with ``count`` rows to train on."""
    return max(1, round(count * weight)) if count else 0


def weighted(items: Sequence[Item], weight: float, seed: int) -> list[Item]:
    """Return the items an epoch sees: every one as often as the weight says, the rest chosen by seed."""
    wanted = weighted_rows(len(items), weight)
    whole, rest = divmod(wanted, max(1, len(items)))
    return [*items] * whole + random.Random(seed).sample(list(items), rest)


def pick(items: Sequence[Item], indices: Sequence[int]) -> list[Item]:
    """Return the items at ``indices``."""
    return [items[index] for index in indices]


def _rows_by_question(conversations: Sequence[Conversation]) -> list[list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for index, conversation in enumerate(conversations):
        groups[question_key(conversation)].append(index)
    return list(groups.values())


def _labels(conversations: Sequence[Conversation]) -> dict[str, int]:
    counter = LabelCounter()
    for conversation in conversations:
        counter.add(conversation["messages"][-1]["content"])
    return counter.labels()


def _quotas(sizes: dict[str, int], wanted: int) -> dict[str, int]:
    """Share ``wanted`` out in proportion to the sizes; what rounding leaves goes where most is missing."""
    total = sum(sizes.values())
    exact = {key: wanted * size / total for key, size in sizes.items()}
    quotas = {key: int(share) for key, share in exact.items()}
    by_rest = sorted(exact, key=lambda key: (quotas[key] - exact[key], -sizes[key]))
    for key in by_rest[: wanted - sum(quotas.values())]:
        quotas[key] += 1
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        richest = max(quotas, key=lambda key: quotas[key])
        if not quotas[key] and sizes[key] >= ROWS_PER_LABEL and quotas[richest] > 1:
            quotas[key], quotas[richest] = 1, quotas[richest] - 1
    return quotas


def _take(groups: list[list[int]], wanted: int, room: int, choice: random.Random) -> list[int]:
    """Take whole groups in random order: as near to ``wanted`` rows as may be, at most ``room``."""
    taken: list[int] = []
    too_large: list[list[int]] = []
    for group in choice.sample(groups, len(groups)):
        if len(taken) + len(group) <= wanted:
            taken += group
        else:
            too_large.append(group)
    missing = wanted - len(taken)
    smallest = min(too_large, key=len, default=[])
    if len(smallest) <= min(2 * missing, room - len(taken)):  # then it is no farther off with it
        taken += smallest
    return taken
