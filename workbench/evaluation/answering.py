"""Ask a model many questions at once: rows of like length together, filled up on the left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import StoppingCriteria

from workbench.asking.greedy import greedy_answers
from workbench.compute import Compute
from workbench.errors import StopRequested
from workbench.evaluation.answers import Answer, RowLoss
from workbench.failures import is_out_of_memory
from workbench.models.rendering import TokenizedExample, stop_ids
from workbench.training.attention import NAME, attention, runs_padding_free
from workbench.training.batches import MicroBatch, micro_batches
from workbench.training.loss import AnswerLoss
from workbench.training.packing import runs_packed

# Tokens in memory at once, question and longest answer of all rows together. More gains nothing on two
# cores; a graphics card is idle with less.
BATCH_TOKENS = {"cpu": 4_096, "cuda": 32_768}
BATCH_ROWS = {"cpu": 32, "cuda": 128}
LOSS_TOKENS = {"cpu": 1_024, "cuda": 8_192}


@dataclass(frozen=True)
class Question:
    """A row as the model reads it, up to where its answer begins; ``ids`` are token ids."""

    index: int
    ids: list[int]


@dataclass(frozen=True)
class Asker:
    """One model, and how to run it.

    Attributes:
        model: In evaluation mode, with the attention of transformers.
        tokenizer: Its tokenizer.
        compute: Device and precision.
        stop_requested: Asked at every token and between micro-batches.
    """

    model: Any
    tokenizer: Any
    compute: Compute
    stop_requested: Callable[[], bool]

    def answers(self, questions: Sequence[Question], answer_tokens: int) -> Iterator[list[Answer]]:
        """Answer questions, always with the likeliest token, batch by batch.

        Args:
            questions: In any order.
            answer_tokens: Longest answer.

        Raises:
            StopRequested: The person asked to stop; the batch in work is lost.
        """
        rows, tokens = (limits[self.compute.device] for limits in (BATCH_ROWS, BATCH_TOKENS))
        waiting = sorted(questions, key=lambda question: len(question.ids))
        while waiting:
            # The longest first: if memory is short, it is at once.
            batch = _last_batch(waiting, answer_tokens, rows, tokens)
            try:
                said = self._answer(batch, answer_tokens)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or len(batch) == 1:
                    raise
                rows = len(batch) // 2
                continue
            del waiting[-len(batch) :]
            yield said

    def losses(
        self, examples: Sequence[tuple[int, TokenizedExample]], kind: type[RowLoss] = RowLoss
    ) -> Iterator[list[RowLoss]]:
        """Work out what expected answers cost, micro-batch by micro-batch.

        Args:
            examples: Index and tokens of every row.
            kind: Of the records.

        Raises:
            StopRequested: The person asked to stop.
        """
        indices = {id(example): index for index, example in examples}
        loss = AnswerLoss(self.model, self.compute)
        for batch in self._micro_batches([example for _, example in examples]):
            if self.stop_requested():
                raise StopRequested
            yield [
                kind(indices[id(example)], cost, correct, tokens)
                for example, cost, correct, tokens in _row_costs(loss, batch)
            ]

    def _micro_batches(self, rows: Sequence[TokenizedExample]) -> Iterator[MicroBatch]:
        """Cut rows as training does; while they are being worked on, the model has training's attention."""
        pad_id = self.tokenizer.pad_token_id or 0
        padded = self.compute.device == "cuda" or not self._runs_packed(rows, pad_id)
        budget = LOSS_TOKENS[self.compute.device]
        batches = micro_batches(rows, budget, padded=padded, pad_id=pad_id)
        with contextlib.nullcontext() if padded else attention(self.model, NAME):
            yield from batches

    def _runs_packed(self, rows: Sequence[TokenizedExample], pad_id: int) -> bool:
        if not rows or not runs_padding_free(self.model):
            return False
        with attention(self.model, NAME):
            return runs_packed(self.model, self.compute, rows, pad_id)

    def _answer(self, batch: Sequence[Question], answer_tokens: int) -> list[Answer]:
        made = greedy_answers(
            self.model,
            self.tokenizer,
            self.compute,
            [question.ids for question in batch],
            answer_tokens,
            [_StopAtOnce(self.stop_requested)],
        )
        ends = set(stop_ids(self.tokenizer))
        return [
            self._read(question.index, row, ends) for question, row in zip(batch, made, strict=True)
        ]

    def _read(self, index: int, new_ids: list[int], ends: set[int]) -> Answer:
        end = next((place for place, token in enumerate(new_ids) if token in ends), None)
        kept = new_ids if end is None else new_ids[:end]
        text = self.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Answer(index, text, len(kept), end is not None)


class _StopAtOnce(StoppingCriteria):
    """Leaves generation after the current token when the person asks to stop."""

    def __init__(self, stop_requested: Callable[[], bool]) -> None:
        self._stop_requested = stop_requested

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        if self._stop_requested():
            raise StopRequested
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _last_batch(
    questions: Sequence[Question], answer_tokens: int, rows: int, tokens: int
) -> Sequence[Question]:
    """Return as many of the longest questions as fit together, at least one.

    Args:
        questions: The longest last.
        answer_tokens: Longest answer.
        rows: Most rows.
        tokens: Most tokens, questions with their padding and answers.
    """
    each = len(questions[-1].ids) + answer_tokens
    return questions[-max(1, min(rows, tokens // each)) :]


def _row_costs(
    loss: AnswerLoss, batch: MicroBatch
) -> Iterator[tuple[TokenizedExample, float, int, int]]:
    """Yield each example with the sum of its token losses, the right predictions, and its tokens."""
    with torch.no_grad():
        logits = loss.logits(batch)
        targets = batch.targets.to(logits.device)
        costs = cross_entropy(logits, targets, reduction="none").cpu()
        correct = (logits.argmax(dim=-1) == targets).cpu()
    counts = [example.supervised_tokens for example in batch.examples]
    parts = zip(batch.examples, costs.split(counts), correct.split(counts), counts, strict=True)
    for example, cost, right, count in parts:
        yield example, float(cost.sum()), int(right.sum()), count
