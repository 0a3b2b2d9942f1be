"""Which questions a run has learned from: asked them again it shows its memory, not what it can do."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from workbench.data.conversations import read_conversations
from workbench.data.formats import Conversation
from workbench.data.split import question_key, split_rows
from workbench.errors import WorkbenchError
from workbench.runs.store import DataPart, open_run, sibling

KEPT = 12  # runs whose questions are kept in memory: what a run learned from never changes


@functools.lru_cache(maxsize=KEPT)
def learned_questions(run_dir: Path) -> frozenset[int]:
    """Return the ``question_key`` of every turn of the rows on the training side, the runs it continues included.

    A weight below 1 may have left some of them out; which ones is not looked at.

    Raises:
        WorkbenchError: The data, or a run it continues, is gone or was changed.
    """
    run = open_run(run_dir)
    share = 0.0 if run.data.validation else run.data.validation_share
    found: set[int] = set()
    for part in run.data.parts:
        conversations = read_conversations(checked_path(part))
        for index in split_rows(conversations, share, run.data.seed)[0]:
            found.update(_turns(conversations[index]))
    if run.continues and run.parent:
        found |= learned_questions(sibling(run, run.parent).directory)
    return frozenset(found)


def checked_path(part: DataPart) -> Path:
    """Return where a dataset's conversations lie.

    Raises:
        WorkbenchError: They are gone or were changed.
    """
    path = Path(part.path)
    if path.is_file():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == part.sha256:
                return path
    raise WorkbenchError(
        f"The data to check with ({part.name}) is gone or was changed.",
        "Add it again, or evaluate on another file.",
    )


def _turns(conversation: Conversation) -> Iterator[int]:
    """Yield the key of what stands before each answer: all of them are learned."""
    messages = conversation["messages"]
    for place, message in enumerate(messages):
        if message["role"] == "assistant":
            yield question_key({"messages": messages[: place + 1]})
