"""The report on several runs: the same page as for one, with a column for each, and their curves in one chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workbench.evaluation.comparing import ComparedRow, RunComparison
from workbench.evaluation.comparing_words import (
    comparison_rows_words,
    comparison_verdict,
    extra_lines,
)
from workbench.evaluation.report import (
    ROWS_SHOWN,
    Curve,
    curve,
    figure_rows,
    made_words,
    marked_side,
    render,
    settings_table,
)
from workbench.runs.record import Record, read_record
from workbench.runs.side_by_side import OTHER_ROWS, RUN_COLORS, checked_on, split_settings

Points = list[tuple[int, float | None]]
CHARTS: list[tuple[str, Callable[[Record], Points]]] = [
    ("Loss per token on the rows each learns from", lambda r: [(e.step, e.loss) for e in r.steps]),
    (
        "Loss per token on the rows each held back",
        lambda r: [(e.step, e.loss) for e in r.evaluations],
    ),
    ("Loss per token on general questions", lambda r: [(e.step, e.loss) for e in r.general]),
]


def comparison_report_html(comparison: RunComparison) -> str:
    """Return the page, as safe as the report on one run."""
    runs, columns, names = comparison.runs, comparison.columns, list(comparison.names.values())
    different, same = split_settings(runs)
    shown = telling_rows(comparison, ROWS_SHOWN)
    checkpoints = [comparison.request.checkpoint, *[None] * (len(runs) - 1)]
    return render(
        title=" · ".join(names),
        made=[made_words(run, number) for run, number in zip(runs, checkpoints, strict=True)],
        words=comparison_rows_words(comparison),
        heading="Side by side",
        verdict=comparison_verdict(comparison),
        names=[column.name for column in columns],
        figures=[*figure_rows(column.metrics for column in columns), *_extra_rows(comparison)],
        answer_tokens=columns[0].facts.get("answer_tokens", "?"),
        part_word="",
        tables=[],
        confusions=[],
        curves=overlaid_curves(comparison),
        rows=[_row(row) for row in shown],
        rows_words=f"{len(shown):,} of {len(comparison.rows):,} rows: where the models differ comes first.",
        plain=[],
        facts=_facts(comparison),
        settings=[
            settings_table("What was set differently", names, different, marked=True),
            settings_table("What was set the same", ["every run"], same),
        ],
    )


def telling_rows(comparison: RunComparison, count: int) -> list[ComparedRow]:
    """Return the rows worth reading first: where some models are right and others wrong, in the file's order."""
    return sorted(comparison.rows, key=lambda row: not row.is_told_apart)[:count]


def overlaid_curves(comparison: RunComparison) -> list[Curve]:
    """Return the charts of all runs, a line for each."""
    records = [read_record(run.events_path) for run in comparison.runs]
    names = comparison.names.values()
    drawn = []
    for title, of in CHARTS:
        lines = zip(names, RUN_COLORS, map(of, records), strict=False)
        if "held back" in title and len({checked_on(run) for run in comparison.runs}) > 1:
            title = f"{title}. {OTHER_ROWS}"
        drawn.append(curve(title, list(lines)))
    return [one for one in drawn if one is not None]


def _row(row: ComparedRow) -> dict[str, Any]:
    return {
        "question": row.row.question,
        "expected": row.row.expected,
        "sides": [marked_side(row.row.expected, side) for side in row.sides.values()],
    }


def _extra_rows(comparison: RunComparison) -> list[dict[str, Any]]:
    return [
        {"label": label, "help": words, "less": False, "cells": cells}
        for label, words, cells in extra_lines(comparison)
    ]


def _facts(comparison: RunComparison) -> Sequence[tuple[str, str]]:
    asked = comparison.request.asked_parts(comparison.runs[0])
    known = [
        ("Asked from", ", ".join(f"{part.name} (sha256 {part.sha256})" for part in asked)),
        ("Rows asked", f"{len(comparison.rows):,} of {comparison.selection.available:,}"),
    ]
    for column in comparison.columns:
        if column.run:
            parts = column.run.data.parts
            known += [
                (
                    f"“{column.name}” learned from",
                    ", ".join(f"{part.name} (sha256 {part.sha256})" for part in parts),
                ),
                (
                    f"“{column.name}” ran on",
                    f"{column.facts.get('device', 'unknown')}, {column.facts.get('precision', 'unknown')}",
                ),
            ]
    return known
