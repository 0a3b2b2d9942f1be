"""A dozen plain questions, answered before and after training, so that a person can read what was forgotten. Pure."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.evaluation.answers import ModelAnswers
from workbench.models.thoughts import answer_of

ANSWER_TOKENS = 32  # a sentence; what a model knows stands in it
MANY_LOST = 4  # of a dozen; one or two come and go with every run


@dataclass(frozen=True)
class PlainQuestion:
    """A question that any model can read, and the words of which a right answer has one."""

    question: str
    accept: tuple[str, ...]

    def is_right(self, answer: str) -> bool:
        """Say whether one of the words stands in an answer, in any case."""
        words = "|".join(map(re.escape, self.accept))
        return re.search(rf"(?<!\w)(?:{words})(?!\w)", answer.casefold()) is not None


@dataclass(frozen=True)
class PlainRow:
    """A question with both answers, and whether each is right."""

    question: str
    base: str
    tuned: str
    base_right: bool
    tuned_right: bool


@functools.cache
def plain_questions() -> tuple[PlainQuestion, ...]:
    """Return the questions. Answers are kept by their place, so new ones are put at the end."""
    text = Path(__file__).with_name("plain_questions.json").read_text(encoding="utf-8")
    return tuple(PlainQuestion(one["question"], tuple(one["accept"])) for one in json.loads(text))


def plain_rows(base: ModelAnswers, tuned: ModelAnswers) -> list[PlainRow]:
    """Return every question that both models have answered."""
    rows = []
    for index, asked in enumerate(plain_questions()):
        if index in base.plain and index in tuned.plain:
            before, after = (answer_of(one.plain[index].text or "") for one in (base, tuned))
            rights = asked.is_right(before), asked.is_right(after)
            rows.append(PlainRow(asked.question, before, after, *rights))
    return rows


def has_forgotten(rows: Sequence[PlainRow]) -> bool:
    """Say whether so many questions that it knew are wrong now that chance does not explain it."""
    return _lost(rows) >= MANY_LOST


def plain_words(rows: Sequence[PlainRow]) -> str:
    """Say how many of the questions are still answered rightly; empty where none was asked."""
    if not rows:
        return ""
    before, after = sum(row.base_right for row in rows), sum(row.tuned_right for row in rows)
    lost = _lost(rows)
    words = f"Of {len(rows)} plain questions it answers {after} rightly, before training {before}"
    return f"{words}; {lost} that it knew {'is' if lost == 1 else 'are'} wrong now."


def _lost(rows: Sequence[PlainRow]) -> int:
    """Return how many the base model knew and the tuned one does not."""
    return sum(row.base_right and not row.tuned_right for row in rows)
