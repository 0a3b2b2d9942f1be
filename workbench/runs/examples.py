"""Questions from a run's own data, for a person to try on what it learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.data.conversations import read_conversations
from workbench.data.formats import Message
from workbench.data.split import split_rows
from workbench.runs.store import Run


@dataclass(frozen=True)
class ExampleQuestion:
    """One row of a run's data to try: what is asked, and what the data says.

    ``system`` is empty for none; the model has not learned from what ``is_held_back``.
    """

    system: str
    question: str
    expected: str
    is_held_back: bool

    @classmethod
    def of(cls, messages: Sequence[Message], is_held_back: bool) -> ExampleQuestion | None:
        """Return a single-turn row, ``None`` for any other."""
        roles = [message["role"] for message in messages]
        if roles[-2:] != ["user", "assistant"] or roles[:-2] not in ([], ["system"]):
            return None
        system = messages[0]["content"] if roles[0] == "system" else ""
        return cls(system, messages[-2]["content"], messages[-1]["content"], is_held_back)


def example_questions(run: Run, count: int) -> list[ExampleQuestion]:
    """Return questions from a run's data, validation rows first: the model has not seen those.

    Only single-turn rows are taken; a question in the middle of a conversation means little alone.
    """
    part, share = (
        (run.data.validation, 0.0)
        if run.data.validation
        else (run.data.parts[0], run.data.validation_share)
    )
    path = Path(part.path)
    if not path.is_file() or path.suffix != ".jsonl":  # deleted since, or of an older version
        return []
    conversations = read_conversations(path)
    train, validation = split_rows(conversations, share, run.data.seed)
    held_back = range(len(conversations)) if run.data.validation else validation
    chosen = [(index, True) for index in held_back]
    chosen += [] if run.data.validation else [(index, False) for index in train]
    questions = [
        ExampleQuestion.of(conversations[index]["messages"], is_held_back)
        for index, is_held_back in chosen
    ]
    return [question for question in questions if question][:count]
