"""What of a conversation a model can read: older turns go first. Pure; knows no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workbench.data.formats import Message
from workbench.errors import WorkbenchError

ANSWER_ROOM_TOKENS = 256  # about a page; few answers of a small model are longer
LEAST_SHARE = 4  # of a model that reads little, a quarter


@dataclass(frozen=True)
class Prompt:
    """What is read before an answer.

    Attributes:
        ids: Token ids of all that the model reads.
        max_tokens: How long the answer may become.
        note: What was left out to make room; empty when nothing.
    """

    ids: list[int]
    max_tokens: int
    note: str = ""


def fit_conversation(
    messages: Sequence[Message],
    max_tokens: int,
    limit_tokens: int,
    to_ids: Callable[[Sequence[Message]], list[int]],
) -> Prompt:
    """Leave out the oldest turns until the model can read the rest and has room for an answer.

    What was said counts more than a long answer: turns go only for ``ANSWER_ROOM_TOKENS``, and the answer gets
    what is left. The system prompt and the last message stay even then.

    Args:
        messages: The conversation; ends on a user message.
        max_tokens: How long the answer may become.
        limit_tokens: How much the model can read, the answer included.
        to_ids: Writes a conversation as token ids.

    Raises:
        WorkbenchError: The last message alone is too long.
    """
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(system) :])
    ids = to_ids([*system, *turns])
    left_out = 0
    room_tokens = min(max_tokens, ANSWER_ROOM_TOKENS, limit_tokens // LEAST_SHARE)
    while len(ids) + room_tokens > limit_tokens and (later := _without_oldest(turns)):
        left_out += len(turns) - len(later)
        turns = later
        ids = to_ids([*system, *turns])
    return _prompt(ids, max_tokens, limit_tokens, left_out)


def fit_text(ids: list[int], max_tokens: int, limit_tokens: int) -> Prompt:
    """Return the prompt for a text that cannot be shortened.

    Raises:
        WorkbenchError: It is too long.
    """
    return _prompt(ids, max_tokens, limit_tokens, 0)


def _without_oldest(turns: list[Message]) -> list[Message]:
    """Return the turns after the second question, which is now the first; none when there is only one."""
    for place in range(1, len(turns)):
        if turns[place]["role"] == "user":
            return turns[place:]
    return []


def _prompt(ids: list[int], max_tokens: int, limit_tokens: int, left_out: int) -> Prompt:
    room = limit_tokens - len(ids)
    if room < 1:
        raise WorkbenchError(
            f"The message has {len(ids):,} tokens; that is longer than the {limit_tokens:,} this model "
            "can read.",
            "Write less.",
        )
    notes = []
    if left_out:
        plural = "message was" if left_out == 1 else "messages were"
        notes.append(
            f"The oldest {left_out:,} {plural} left out: the model reads {limit_tokens:,} tokens at most."
        )
    if room < max_tokens:
        notes.append(f"There is room for an answer of {room:,} tokens only.")
    return Prompt(ids, min(max_tokens, room), " ".join(notes))
