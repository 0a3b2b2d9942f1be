"""One answer while it is written: the tokens so far, how the next is chosen, and when it is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.asking.quick import Factors, QuickModel, QuickRow
from workbench.errors import WorkbenchError
from workbench.inference.context import Prompt
from workbench.inference.text import TextPieces


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. ``temperature`` 0 always takes the likeliest (greedy).

    Attributes:
        temperature: Above 0; higher varies more.
        top_p: Only the likeliest tokens that together have this probability.
        top_k: Only this many of the likeliest tokens; 0 for all.
        repetition_penalty: Above 1, tokens that were there already become less likely (arXiv 1909.05858).
        stop: Texts that end the answer.
        seed: The same seed gives the same answer again; ``None`` for another one each time.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How an answer ended; ``tokens`` counts every token that was written, the one that ends it too."""

    finish_reason: Literal["stop", "length"]
    tokens: int


@dataclass(frozen=True)
class Asked:
    """The model that is to answer, its folder, and how much of its adapter is on (1 is as trained)."""

    name: str
    directory: Path
    strength: float


@dataclass(frozen=True)
class Question:
    """What is to be answered, and who wants to know.

    Attributes:
        asked: Which model answers.
        prompt: What it reads.
        sampling: How to choose tokens.
        show: Is given the text piece by piece.
        is_stopped: Asked after every token; true ends the answer.
    """

    asked: Asked
    prompt: Prompt
    sampling: Sampling
    show: Callable[[str], None]
    is_stopped: Callable[[], bool]


class Answer:
    """An answer that grows by a token at a time.

    Args:
        tokenizer: Turns the ids into text.
        stop_ids: Tokens that end it.
        question: What it answers.

    Attributes:
        ids: Prompt and answer so far, int64 (1, tokens).
        cache: What the model remembers of all but the last token; with ``quick`` and ``factors``, which go on with it,
            once the prompt was read.
        is_over: Nothing is added any more, and all of its text was shown.
    """

    quick: QuickModel | None = None
    factors: Sequence[Factors] = ()
    cache: Any = None

    def __init__(self, tokenizer: Any, stop_ids: Sequence[int], question: Question) -> None:
        self.prompt, self.sampling = question.prompt, question.sampling
        self._show, self._is_stopped = question.show, question.is_stopped
        sampling = self.sampling
        self.ids = torch.tensor([self.prompt.ids])
        self._pieces, self._stop_ids = TextPieces(tokenizer, sampling.stop), stop_ids
        self._processors = _processors(sampling)
        self._random = torch.Generator()
        self._random.seed() if sampling.seed is None else self._random.manual_seed(sampling.seed)
        self._tokens = 0
        self._is_complete = False
        self.is_over = self._is_stopped()

    @property
    def row(self) -> QuickRow:
        """The last token, and what goes with it."""
        return QuickRow(int(self.ids[0, -1]), self.cache, self.factors)

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        is_cut = self._tokens >= self.prompt.max_tokens and not self._is_complete
        return Outcome("length" if is_cut else "stop", self._tokens)

    def choose(self, logits: Tensor) -> None:
        """Add a token, as ``generate`` of transformers would choose it.

        Args:
            logits: float32 (1, vocabulary).

        Raises:
            WorkbenchError: They are not numbers.
        """
        check_numbers(logits)
        scores = self._processors(self.ids, logits)
        if self.sampling.temperature > 0:
            token = torch.multinomial(scores.softmax(-1), 1, generator=self._random)
        else:
            token = scores.argmax(-1, keepdim=True)
        self.ids = torch.cat([self.ids, token], 1)
        self.add(int(token))

    def add(self, token: int) -> None:
        """Take a token that was chosen: show its text, and see whether it is enough."""
        self._tokens += 1
        if token in self._stop_ids:
            self._is_complete = True
        elif piece := self._pieces.add(token):
            self._show(piece)
        self._is_complete |= self._pieces.is_stopped
        self.is_over = (
            self._is_complete or self._tokens >= self.prompt.max_tokens or self._is_stopped()
        )
        if self.is_over:
            self.finish()

    def finish(self) -> None:
        """End it: show what was held back, and let go of what the model remembers."""
        self.is_over = True
        if piece := self._pieces.end():
            self._show(piece)
        self._is_complete |= self._pieces.is_stopped
        self.cache = None


def check_numbers(logits: Tensor) -> None:
    """Refuse to choose from what is no number, which ``generate`` does not.

    Raises:
        WorkbenchError: There is one among them.
    """
    if logits.isnan().any():
        raise WorkbenchError(
            "The model computes what is not a number: its training has diverged.",
            "Ask a checkpoint from before that, or train again with a lower learning rate.",
        )


def _processors(sampling: Sampling) -> LogitsProcessorList:
    """Return what ``generate`` does to the logits, in its order."""
    made = LogitsProcessorList()
    if sampling.repetition_penalty != 1:
        made.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        made.append(TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            made.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            made.append(TopPLogitsWarper(sampling.top_p))
    return made
