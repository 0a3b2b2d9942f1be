"""Which rows are asked: exactly those a run held back, or those of another file."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from workbench.data.conversations import StoredRow, read_stored_rows
from workbench.data.formats import Conversation, Message
from workbench.data.split import question_key, split_rows
from workbench.errors import WorkbenchError
from workbench.evaluation.learned import checked_path, learned_questions
from workbench.evaluation.request import EvaluationRequest
from workbench.models.thoughts import answer_of
from workbench.runs.store import DataPart, Run, sibling

ANSWER: Message = {"role": "assistant", "content": ""}  # what a ``question_key`` takes no notice of


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
    def key(self) -> int:
        """The ``question_key`` of what is asked."""
        return question_key({"messages": [*self.asked, ANSWER]})

    @property
    def question(self) -> str:
        return self.asked[-1]["content"]

    @property
    def expected(self) -> str:
        """Without thoughts before it; empty where no answer is expected."""
        return answer_of(self.written)

    @property
    def written(self) -> str:
        """All that the model is expected to write, a thought before its answer included."""
        return self.messages[-1]["content"] if self.has_expected else ""


@dataclass(frozen=True)
class Selection:
    """The rows of a request.

    Attributes:
        rows: Those that are asked, in their order.
        available: How many there are without the limit.
        longest_expected: The longest answers among all that are available, a few.
        known_answers: Every answer of the datasets asked, also of the rows that train: they tell which labels
            there are.
        learned_answers: Where another file is asked, those of the data that the run learned from: the file may
            lack some labels. None where that data is gone.
        learned: Of runs that are compared, how many rows are left out because each learned from them, by id.
        left_out: How many rows that makes.
        unknown: Ids of the runs whose data is gone, so that nobody can tell what they learned from.
    """

    rows: list[EvaluationRow]
    available: int
    longest_expected: list[str]
    known_answers: list[str]
    learned_answers: list[str] = field(default_factory=list)
    learned: dict[str, int] = field(default_factory=dict)
    left_out: int = 0
    unknown: tuple[str, ...] = ()


def select_rows(run: Run, request: EvaluationRequest) -> Selection:
    """Choose the rows.

    Raises:
        WorkbenchError: The data is gone or was changed, or the run held nothing back.
    """
    found: list[EvaluationRow] = []
    known: list[str] = []
    rows_run = request.rows_run(run)
    for part, share in _sources(rows_run, request):
        stored = read_stored_rows(checked_path(part))
        known += _last_answers(stored)
        conversations: list[Conversation] = [{"messages": row.messages} for row in stored]
        if share is not None:
            stored = [stored[i] for i in split_rows(conversations, share, rows_run.data.seed)[1]]
        for row in stored:
            found.append(EvaluationRow(len(found), part.name, row.row, row.messages))
    if not found:
        raise WorkbenchError(
            f'"{rows_run.name}" held no rows back to check with.'
            if request.data is None
            else f"{request.data.name} has no row to ask.",
            "Give it a file with other rows.",
        )
    longest = sorted((row.written for row in found), key=len, reverse=True)
    learned, unknown = _learned(run, request, found)
    left_out = set[int]().union(*learned.values())
    if len(left_out) == len(found):
        raise WorkbenchError(
            f"Every one of the {len(found):,} rows was learned from by one of these runs.",
            "Compare them on another file.",
        )
    return Selection(
        _limited(found, request.limit, rows_run.data.seed, left_out),
        len(found) - len(left_out),
        longest[:20],
        known,
        _learned_answers(rows_run) if request.data or rows_run.data.validation else [],
        {run_id: len(rows) for run_id, rows in learned.items() if rows},
        len(left_out),
        unknown,
    )


def general_rows(run: Run) -> list[EvaluationRow]:
    """Return the general questions that check what was forgotten; none for runs of older versions."""
    part = run.data.general_check
    if part is None or not Path(part.path).is_file():
        return []
    stored = read_stored_rows(checked_path(part))
    return [EvaluationRow(i, part.name, row.row, row.messages) for i, row in enumerate(stored)]


def _sources(run: Run, request: EvaluationRequest) -> list[tuple[DataPart, float | None]]:
    """Return the datasets with the share each holds back; ``None`` where all rows are asked."""
    if request.data:
        return [(request.data, None)]
    if run.data.validation:
        return [(run.data.validation, None)]
    return [(part, run.data.validation_share) for part in run.data.parts]


def _last_answers(rows: Iterable[StoredRow]) -> list[str]:
    last = [row.messages[-1] for row in rows]
    return [answer_of(message["content"]) for message in last if message["role"] == "assistant"]


def _learned_answers(run: Run) -> list[str]:
    try:
        paths = [checked_path(part) for part in run.data.parts]
    except WorkbenchError:
        return []
    return [answer for path in paths for answer in _last_answers(read_stored_rows(path))]


def _learned(
    run: Run, request: EvaluationRequest, rows: Sequence[EvaluationRow]
) -> tuple[dict[str, set[int]], tuple[str, ...]]:
    """Return the indices of rows that each of the runs compared learned from, and runs nobody knows it of."""
    learned: dict[str, set[int]] = {}
    unknown: list[str] = []
    keys = [row.key for row in rows if request.compared]
    for run_id in request.compared:
        try:
            questions = learned_questions(sibling(run, run_id).directory)
        except WorkbenchError:
            unknown.append(run_id)
        else:
            learned[run_id] = {i for i, key in enumerate(keys) if key in questions}
    return learned, tuple(unknown)


def _limited(
    rows: Sequence[EvaluationRow], limit: int | None, seed: int, left_out: Set[int]
) -> list[EvaluationRow]:
    """Choose by seed, because files are often sorted; a higher limit keeps the rows of a lower one."""
    order = list(range(len(rows)))
    if limit is not None and limit < len(rows):
        random.Random(seed).shuffle(order)
    return [rows[i] for i in sorted([i for i in order if i not in left_out][:limit])]
