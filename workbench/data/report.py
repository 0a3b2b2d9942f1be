"""What the check of a data file found: a report that can be shown, kept and read again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.data.formats import Mapping
from workbench.data.problems import Fix, Severity

CONTAINER_WORDS = {
    "json": "JSON",
    "jsonl": "JSON lines",
    "csv": "table (CSV)",
    "tsv": "table (TSV)",
    "xlsx": "Excel workbook",
    "parquet": "Parquet",
}
FORMAT_WORDS = {
    "alpaca": "Alpaca form",
    "sharegpt": "ShareGPT conversations",
    "openai": "OpenAI conversations",
    "prompt-completion": "prompts and completions",
    "question-answer": "questions and answers",
    "text-label": "texts and labels",
    "mapped": "columns as you chose them",
    "unknown": "columns not recognised",
}


@dataclass(frozen=True)
class Finding:
    """One place where a problem stands; rows and lines count from 1."""

    row: int
    line: int
    detail: str


@dataclass(frozen=True)
class Problem:
    """All places of one kind of problem.

    Attributes:
        code: Which of ``problems.KINDS``.
        severity: ``error`` stops training, ``warning`` does not.
        count: How many rows (or columns, or answers) have it.
        message: One or two sentences.
        fix: What mends it, or empty.
        first: The first places.
    """

    code: str
    severity: Severity
    count: int
    message: str
    fix: Fix
    first: tuple[Finding, ...]


@dataclass(frozen=True)
class Report:
    """What is in a file.

    Attributes:
        name: The file as the person calls it.
        container: ``json``, ``jsonl``, ``csv``, ``tsv``, ``parquet``, ``xlsx``; empty when unreadable.
        format: As in ``detect.Detection``.
        encoding: Of the text, empty for files that are none.
        rows: Rows in the file, the broken ones included.
        usable_rows: Rows a model can learn from.
        characters: Of all messages of the usable rows.
        fields: Names of the columns.
        mapping: How the rows were read; ``None`` when nobody knows.
        labels: How often each answer comes, when answers are labels; else empty.
        preview: The first rows as text, to choose columns by.
        problems: Errors first, then warnings.
    """

    name: str
    container: str = ""
    format: str = "unknown"
    encoding: str = ""
    rows: int = 0
    usable_rows: int = 0
    characters: int = 0
    fields: tuple[str, ...] = ()
    mapping: Mapping | None = None
    labels: dict[str, int] = field(default_factory=dict)
    preview: tuple[dict[str, str], ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that stop training."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def is_usable(self) -> bool:
        return self.usable_rows > 0 and not self.errors

    @property
    def kind_words(self) -> str:
        """What kind of file it is, in words."""
        kind = [CONTAINER_WORDS[self.container], FORMAT_WORDS[self.format], self.encoding.upper()]
        return ", ".join(part for part in kind if part)

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON document; ``report_from_json`` reads it again."""
        return asdict(self)


def report_from_json(document: dict[str, Any]) -> Report:
    """Read what ``Report.as_json`` made."""
    problems = tuple(
        Problem(**{**problem, "first": tuple(Finding(**first) for first in problem["first"])})
        for problem in document["problems"]
    )
    mapping = document["mapping"]
    return Report(
        **{
            **document,
            "fields": tuple(document["fields"]),
            "preview": tuple(document["preview"]),
            "mapping": Mapping(**mapping) if mapping else None,
            "problems": problems,
        }
    )
