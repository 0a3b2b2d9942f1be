"""Which of two models answered better, as the person said; kept in the run.

``runs/<id>/votes.jsonl`` has one JSON object a line, and a later vote on the same answers counts instead.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.runs.chats import Chat
from workbench.runs.events import end_torn_line
from workbench.runs.store import Run

SAME = "same"


@dataclass(frozen=True)
class Vote:
    """One vote.

    Attributes:
        better: The name of the model that answered better, or ``same``.
        models: Who answered, as they were shown: left and right.
        question: What both were asked last.
        answers: What each answered.
        settings: How they were asked.
        conversation: The id of the chat that it was in.
        time: In seconds since the epoch.
    """

    better: str
    models: tuple[str, str]
    question: str
    answers: tuple[str, str]
    settings: dict[str, Any]
    conversation: str
    time: float

    @classmethod
    def on(cls, chat: Chat, better: str) -> Vote:
        """Make a vote on the last answers of two models."""
        (left, right), (first, second) = chat.models, chat.answers
        return cls(
            better, (left, right), chat.question, (first, second), chat.settings, chat.id, time.time()
        )  # fmt: skip

    @property
    def about(self) -> tuple[Any, ...]:
        """What it is a vote on, whichever was on the left."""
        pairs = zip(self.models, self.answers, strict=True)
        return (self.conversation, self.question, *sorted(pairs))


def add_vote(run: Run, vote: Vote) -> None:
    """Keep a vote.

    Raises:
        OSError: It could not be written; or the run was deleted.
    """
    end_torn_line(votes_path(run))
    with votes_path(run).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(vote), ensure_ascii=False) + "\n")


def read_votes(run: Run) -> list[Vote]:
    """Return the votes that count; lines that are damaged are passed over."""
    path = votes_path(run)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    votes = [vote for vote in map(_vote, lines) if vote]
    return list({vote.about: vote for vote in votes}.values())


def count_votes(votes: Iterable[Vote]) -> dict[tuple[str, ...], Counter[str]]:
    """Return for each two models, in alphabetical order, how often each was better, or both the same."""
    counts: dict[tuple[str, ...], Counter[str]] = {}
    for vote in votes:
        counts.setdefault(tuple(sorted(vote.models)), Counter())[vote.better] += 1
    return counts


def votes_path(run: Run) -> Path:
    """Return the file."""
    return run.directory / "votes.jsonl"


def _vote(line: str) -> Vote | None:
    try:
        record = json.loads(line)
        (left, right), (first, second) = record.pop("models"), record.pop("answers")
        vote = Vote(models=(left, right), answers=(first, second), **record)
        texts = (vote.better, vote.question, vote.conversation, *vote.models, *vote.answers)
        return vote if all(isinstance(text, str) for text in texts) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
