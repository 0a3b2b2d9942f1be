"""Which rows are asked: exactly those a run held back, or those of another file."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.data.conversations import read_stored_rows
from workbench.data.formats import Conversation, Message
from workbench.data.split import split_rows
from workbench.errors import WorkbenchError
from workbench.evaluation.request import EvaluationRequest
from workbench.runs.store import DataPart, Run


@dataclass(frozen=True)
class EvaluationRow:
    """One row to ask.

    Attributes:
        index: Its place among all rows that could be asked, whatever the limit.
        dataset: What its dataset is called.
        row: Its number in the file the person brought.
        messages: The conversation; the last message is the answer expected, if there is one.
    """

    index: int
    dataset: str
    row: int
    messages: list[Message]

    @property
    def has_expected(self) -> bool:
        return self.messages[-1]["role"] == "assistant"

    @property
    def asked(self) -> list[Message]:
        return self.messages[:-1] if self.has_expected else self.messages

    @property
    def question(self) -> str:
        return self.asked[-1]["content"]

    @property
    def expected(self) -> str:
        """Empty where no answer is expected."""
        return self.messages[-1]["content"] if self.has_expected else ""


@dataclass(frozen=True)
class Selection:
    """The rows of a request.

    Attributes:
        rows: Those that are asked, in their order.
        available: How many there are without the limit.
        longest_expected: The longest answers among all that are available, a few.
        known_answers: Every answer of the datasets, also of the rows that train: they tell which labels
            there are.
    """

    rows: list[EvaluationRow]
    available: int
    longest_expected: list[str]
    known_answers: list[str]


def select_rows(run: Run, request: EvaluationRequest) -> Selection:
    """Choose the rows.

    Raises:
        WorkbenchError: The data is gone or was changed, or the run held nothing back.
    """
    found: list[EvaluationRow] = []
    known: list[str] = []
    for part, share in _sources(run, request):
        stored = read_stored_rows(checked_path(part))
        last = [row.messages[-1] for row in stored]
        known += [message["content"] for message in last if message["role"] == "assistant"]
        conversations: list[Conversation] = [{"messages": row.messages} for row in stored]
        if share is not None:
            stored = [stored[i] for i in split_rows(conversations, share, run.data.seed)[1]]
        for row in stored:
            found.append(EvaluationRow(len(found), part.name, row.row, row.messages))
    if not found:
        raise WorkbenchError(
            f'"{run.name}" held no rows back to check with.'
            if request.data is None
            else f"{request.data.name} has no row to ask.",
            "Give it a file with other rows.",
        )
    longest = sorted((row.expected for row in found), key=len, reverse=True)
    return Selection(_limited(found, request.limit, run.data.seed), len(found), longest[:20], known)


def general_rows(run: Run) -> list[EvaluationRow]:
    """Return the general questions that check what was forgotten; none for runs of older versions."""
    part = run.data.general_check
    if part is None or not Path(part.path).is_file():
        return []
    stored = read_stored_rows(checked_path(part))
    return [EvaluationRow(i, part.name, row.row, row.messages) for i, row in enumerate(stored)]


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


def _sources(run: Run, request: EvaluationRequest) -> list[tuple[DataPart, float | None]]:
    """Return the datasets with the share each holds back; ``None`` where all rows are asked."""
    if request.data:
        return [(request.data, None)]
    if run.data.validation:
        return [(run.data.validation, None)]
    return [(part, run.data.validation_share) for part in run.data.parts]


def _limited(rows: Sequence[EvaluationRow], limit: int | None, seed: int) -> list[EvaluationRow]:
    """Choose by seed, because files are often sorted; a higher limit keeps the rows of a lower one."""
    if limit is None or limit >= len(rows):
        return list(rows)
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    return [rows[i] for i in sorted(order[:limit])]
