"""Keep general skills: while a model learns your rows, hold its other answers where they were.

Every step also reads a few general examples. On them the model is not told what to say; it is held to
the probabilities that the model it started from gave to every next token (Li & Hoiem, "Learning without
Forgetting", arXiv 1606.09282; Hinton et al., arXiv 1503.02531). Those are worked out once, before
training, so no second model is needed: the likeliest tokens of every position, and one sum for all
others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from workbench.models.rendering import TokenizedExample
from workbench.training.base_answers import BaseAnswer
from workbench.training.batches import MicroBatch

SMALLEST_PROBABILITY = 1e-6  # of all others together; keeps its logarithm finite


class GeneralSkills:
    """The general examples of a run with what the base model expects in them.

    Args:
        examples: The general examples.
        base: What the base model expects in each.
        seed: Decides their order.
    """

    def __init__(
        self, examples: Sequence[TokenizedExample], base: Sequence[BaseAnswer], seed: int
    ) -> None:
        self._examples = examples
        self._seed = seed
        self._base = {id(example): answer for example, answer in zip(examples, base, strict=True)}

    def examples_of_step(self, step: int, count: int) -> list[TokenizedExample]:
        """Return the examples that go with a step (from 0); all have had their turn before one returns."""
        positions = range(step * count, (step + 1) * count)
        return [self._examples[self._order(p // self.size)[p % self.size]] for p in positions]

    @property
    def size(self) -> int:
        return len(self._examples)

    def summed_divergence(self, logits: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
        """Return how far the model has moved on a micro-batch of general examples.

        Args:
            logits: float (supervised positions, vocabulary), of the model in training.
            batch: The micro-batch they belong to.

        Returns:
            The sum over positions of the Kullback-Leibler divergence from the base model's
            distribution, in nats, a float32 scalar; 0 where nothing has changed.
        """
        answers = [self._base[id(example)] for example in batch.examples]
        expected = torch.cat([answer.log_probabilities for answer in answers]).to(logits.device)
        token_ids = torch.cat([answer.token_ids for answer in answers]).to(logits.device)
        now = logits.float().log_softmax(dim=-1).gather(-1, token_ids.long())
        listed = (expected.exp() * (expected - now)).sum()
        others, others_now = _others(expected), _others(now)
        return listed + (others * (others / others_now).log()).sum()

    def _order(self, turn: int) -> list[int]:
        order = list(range(self.size))
        random.Random(f"{self._seed} {turn}").shuffle(order)
        return order


def _others(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Return the probability of all tokens that are not listed, (positions,)."""
    return (1 - log_probabilities.exp().sum(dim=-1)).clamp_min(SMALLEST_PROBABILITY)
