"""What was read: conversations, and every problem found, with its row and line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from workbench.data.formats import Conversation, RowProblem, alpaca_conversation, unknown_fields
from workbench.data.readers import Row, read_rows
from workbench.errors import WorkbenchError

SHOWN_PROBLEMS = 3


@dataclass(frozen=True)
class Dataset:
    """A file that was read without a problem.

    Attributes:
        conversations: One per row, in the order of the file.
        rows: The rows as they stand in the file, for the table.
        notes: Things worth knowing that stop nothing, as sentences.
    """

    conversations: list[Conversation]
    rows: list[dict[str, object]]
    notes: list[str]

    @property
    def mean_characters(self) -> float:
        """Mean length of a conversation, in characters of all messages."""
        total = sum(len(m["content"]) for c in self.conversations for m in c["messages"])
        return total / len(self.conversations)


def read_dataset(path: Path, name: str) -> Dataset:
    """Read an Alpaca JSON file and check every row.

    Args:
        path: The file.
        name: What the person calls it; used in messages only.

    Raises:
        WorkbenchError: The file or some rows cannot be used. All rows are checked first; the
            message shows the first problems and counts the rest.
    """
    rows = read_rows(path, name)
    conversations: list[Conversation] = []
    problems: list[str] = []
    for row in rows:
        try:
            conversations.append(alpaca_conversation(row.value))
        except RowProblem as problem:
            problems.append(f"row {row.number:,} (line {row.line:,}): {problem}")
    if problems:
        raise _rejection(name, problems, len(rows))
    return Dataset(
        conversations=conversations,
        rows=[row.value for row in rows],
        notes=_unknown_field_notes(rows) + _duplicate_notes(conversations),
    )


def _rejection(name: str, problems: list[str], row_count: int) -> WorkbenchError:
    lines = [f"{name}, {problem}" for problem in problems[:SHOWN_PROBLEMS]]
    if len(problems) > SHOWN_PROBLEMS:
        lines.append(f"And {len(problems) - SHOWN_PROBLEMS:,} more of {row_count:,} rows.")
    return WorkbenchError("\n".join(lines))


def _unknown_field_notes(rows: list[Row]) -> list[str]:
    counts: Counter[str] = Counter()
    first: dict[str, Row] = {}
    for row in rows:
        for field in unknown_fields(row.value):
            counts[field] += 1
            first.setdefault(field, row)
    return [
        f"The field `{field}` is not used: the model does not see it "
        f"({count:,} rows, first in row {first[field].number:,}, line {first[field].line:,})."
        for field, count in counts.items()
    ]


def _duplicate_notes(conversations: list[Conversation]) -> list[str]:
    distinct = {str(conversation) for conversation in conversations}
    repeated = len(conversations) - len(distinct)
    return [f"{repeated:,} rows repeat an earlier row word for word."] if repeated else []
