"""Rows longer than the maximum length: left out, or shortened so that they still teach how to answer.

Shortening works on the texts of the messages, and the chat template is applied again afterwards: so the
assistant's header and the token that ends its turn are there in every case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.data.formats import Conversation, Message
from workbench.models.rendering import TokenizedExample, tokenize_example

TooLong = Literal["drop", "cut"]


@dataclass(frozen=True)
class FittedExamples:
    """Examples that fit.

    Attributes:
        examples: One per row, ``None`` where the row is left out.
        cut_rows: How many were shortened.
        dropped_rows: How many were left out.
    """

    examples: list[TokenizedExample | None]
    cut_rows: int
    dropped_rows: int


def fit_examples(
    tokenizer: Any,
    conversations: Sequence[Conversation],
    examples: Sequence[TokenizedExample],
    limit_tokens: int,
    too_long: TooLong,
) -> FittedExamples:
    """Shorten or leave out what is longer than the limit.

    Args:
        tokenizer: As for ``tokenize_example``.
        conversations: The rows.
        examples: The same rows, tokenized.
        limit_tokens: Most tokens in an example.
        too_long: ``drop`` leaves a longer row out, ``cut`` shortens it where that is possible.
    """
    fitted: list[TokenizedExample | None] = []
    cut_rows = 0
    for conversation, example in zip(conversations, examples, strict=True):
        if len(example.input_ids) <= limit_tokens:
            fitted.append(example)
            continue
        shorter = (
            shorten(tokenizer, conversation["messages"], limit_tokens)
            if too_long == "cut"
            else None
        )
        cut_rows += shorter is not None
        fitted.append(tokenize_example(tokenizer, shorter) if shorter else None)
    return FittedExamples(fitted, cut_rows, fitted.count(None))


def shorten(tokenizer: Any, messages: Sequence[Message], limit_tokens: int) -> list[Message] | None:
    """Shorten a conversation until it fits.

    First the oldest questions with their answers go; the system prompt stays. Then the answer keeps its
    beginning, at least half of the room where it needs that much, and the question the beginning of
    what is left.

    Returns:
        The shorter conversation; ``None`` when nothing of the question or the answer would be left.
    """

    def length(candidate: Sequence[Message]) -> int:
        return len(tokenize_example(tokenizer, candidate).input_ids)

    system = [message for message in messages[:1] if message["role"] == "system"]
    spoken = list(messages[len(system) :])
    while len(spoken) > 2 and length([*system, *spoken]) > limit_tokens:
        spoken = spoken[2:]
    question, answer = spoken[-2]["content"], spoken[-1]["content"]
    if len(spoken) > 2 or length([*system, *spoken]) <= limit_tokens:
        return [*system, *spoken]
    frame_tokens = length(_exchange(system, ".", ".")) - 2 * _count(tokenizer, ".")
    room = limit_tokens - frame_tokens
    while room > 1:
        # Tokens at the seams may join or split, so it can take a few tries.
        kept = min(_count(tokenizer, answer), max(room - _count(tokenizer, question), room // 2))
        shorter = _exchange(
            system, _head(tokenizer, question, room - kept), _head(tokenizer, answer, kept)
        )
        if not all(message["content"].strip() for message in shorter[-2:]):
            return None
        if length(shorter) <= limit_tokens:
            return shorter
        room -= 1
    return None


def _exchange(system: Sequence[Message], question: str, answer: str) -> list[Message]:
    return [
        *system,
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def _count(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def _head(tokenizer: Any, text: str, tokens: int) -> str:
    """Return the beginning of a text that has so many tokens; never half of a character."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ends = [end for _, end in encoded["offset_mapping"]]
    if len(ends) <= tokens:
        return text
    if tokens <= 0:
        return ""
    end, following = ends[tokens - 1], encoded["offset_mapping"][tokens][0]
    # Where both say the same, no character is split between them.
    return text[: min(end, following)]
