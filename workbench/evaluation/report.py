"""The report: one page of HTML to show a colleague. It opens offline, and nothing in it is executed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from workbench.differences import mark_differences
from workbench.evaluation.card import figure_lines, rows_words, verdict
from workbench.evaluation.measured import Side
from workbench.evaluation.metrics import Confusion, Metrics
from workbench.evaluation.result import Evaluation, RowResult
from workbench.runs.record import Record, read_record
from workbench.runs.side_by_side import method_label
from workbench.runs.store import Run

TEMPLATE = Path(__file__).with_name("report.html")
ROWS_SHOWN = 40
WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 630, 12, 172
POINTS = 300  # more than the curve has pixels for would only make the page heavy


@dataclass(frozen=True)
class Line:
    """A line of a chart; ``points`` as SVG wants them."""

    name: str
    colour: str
    points: str


@dataclass(frozen=True)
class Curve:
    """A chart of the run, in pixels; ``lowest`` and ``highest`` label its vertical axis."""

    title: str
    lines: list[Line]
    lowest: str
    highest: str
    last_step: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = RIGHT
    top: int = TOP
    bottom: int = BOTTOM


def report_html(evaluation: Evaluation) -> str:
    """Return the page. Every text in it is escaped, and its policy forbids scripts and the network."""
    run = evaluation.run
    shown = telling_rows(evaluation.rows, ROWS_SHOWN)
    metrics = evaluation.metrics.items()
    return render(
        title=run.name,
        made=[made_words(run, evaluation.request.checkpoint)],
        words=rows_words(evaluation),
        heading="Before and after",
        verdict=verdict(evaluation),
        names=list(evaluation.metrics),
        figures=figure_rows(evaluation.metrics.values()),
        answer_tokens=evaluation.facts.get("answer_tokens", "?"),
        part_word="Label" if evaluation.task == "labels" else "Field",
        tables=[(name, found.parts) for name, found in metrics if found.parts],
        confusions=[(n, _shaded(found.confusion)) for n, found in metrics if found.confusion],
        curves=curves(read_record(run.events_path)),
        rows=[
            {
                "question": row.question,
                "expected": row.expected,
                "sides": [
                    marked_side(row.expected, side) for side in (row.base, row.tuned) if side
                ],
            }
            for row in shown
        ],
        rows_words=f"{len(shown):,} of {len(evaluation.rows):,} rows: what went wrong comes first.",
        plain=evaluation.plain,
        facts=_facts(evaluation),
        settings=[
            settings_table(
                "", ["value"], [(name, [value]) for name, value in run.config.model_dump().items()]
            )
        ],
    )


def render(**values: Any) -> str:
    """Fill in the page: every value is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(percent=lambda share: f"{100 * share:.1f} %", **values)


def made_words(run: Run, checkpoint: int | None) -> str:
    """Say which run it is, how it was made, and which of its states was asked."""
    trained = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
    words = f"Run {run.id}, trained {trained} from {run.config.model} by {method_label(run)}"
    return f"{words}{'' if checkpoint is None else f'; the model after step {checkpoint}'}."


def settings_table(
    title: str, heads: list[str], rows: Sequence[tuple[str, Sequence[Any]]], *, marked: bool = False
) -> dict[str, Any]:
    """Return a table of settings as the page takes it; ``marked`` values are those that differ."""
    return {"title": title, "heads": heads, "rows": rows, "marked": marked}


def telling_rows(rows: Sequence[RowResult], count: int) -> list[RowResult]:
    """Return the rows worth reading first: those that got worse, then wrong ones, then by loss."""

    def order(row: RowResult) -> tuple[bool, bool, float]:
        side = row.tuned or row.base
        wrong = side is not None and side.right is False
        return not row.got_worse, not wrong, -(side.loss if side else 0.0)

    return sorted(rows, key=order)[:count]


def curves(record: Record) -> list[Curve]:
    """Return the charts of a run: its losses, and what it forgot."""
    learned, checked, general = record.losses().values()
    found = [
        curve(
            "Loss per token: on the rows it learns from, and on those held back",
            [("training", "#8c959f", learned), ("held back", "#0969da", checked)],
        ),
        curve("Loss per token on general questions", [("general", "#9a6700", general)]),
    ]
    return [one for one in found if one is not None]


def curve(
    title: str, series: Sequence[tuple[str, str, Sequence[tuple[int, float | None]]]]
) -> Curve | None:
    """Draw lines of (step, value); ``None`` when no line has two points.

    Args:
        title: What it shows.
        series: Name, colour and points of each line; a value that is ``None`` is left out.
    """
    lines = {
        (name, colour): _thinned([(x, y) for x, y in points if y is not None])
        for name, colour, points in series
    }
    drawn = {key: points for key, points in lines.items() if len(points) > 1}
    if not drawn:
        return None
    values = [y for points in drawn.values() for _, y in points]
    low, high = min(values), max(values)
    last = max(x for points in drawn.values() for x, _ in points) or 1

    def place(x: int, y: float) -> str:
        right = LEFT + (RIGHT - LEFT) * x / last
        down = BOTTOM - (BOTTOM - TOP) * (y - low) / ((high - low) or 1)
        return f"{right:.1f},{down:.1f}"

    return Curve(
        title,
        [
            Line(name, colour, " ".join(place(x, y) for x, y in points))
            for (name, colour), points in drawn.items()
        ],
        f"{low:.2f}",
        f"{high:.2f}",
        f"{last:,}",
    )


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    stride = max(1, len(points) // POINTS)
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def figure_rows(models: Iterable[Metrics]) -> list[dict[str, Any]]:
    """Return the figures of the models as the page takes them."""
    return [
        {
            "label": kind.label,
            "help": kind.help,
            "less": kind.less_is_better,
            "cells": cells,
        }
        for kind, cells in figure_lines(models)
    ]


def _shaded(confusion: Confusion) -> dict[str, Any]:
    """Return a confusion matrix with how dark each cell is: its share of the expected label's rows."""
    rows = []
    for label, counts in zip(confusion.labels, confusion.counts, strict=True):
        total = sum(counts)
        if total:
            rows.append((label, [(count, round(0.6 * count / total, 2)) for count in counts]))
    return {"labels": confusion.labels, "rows": rows}


def marked_side(expected: str, side: Side) -> dict[str, Any]:
    """Return an answer as the page takes it: in pieces, those marked that the expected one does not have."""
    _, pieces = mark_differences(expected, side.answer)
    if side.right or not expected:
        pieces = [(side.answer, False)]
    return {"right": side.right, "pieces": pieces if side.answer else [("(empty)", False)]}


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    request, run, facts = evaluation.request, evaluation.run, evaluation.facts
    asked = request.asked_parts(run)
    known = [
        ("Learned from", ", ".join(f"{p.name} (sha256 {p.sha256})" for p in run.data.parts)),
        ("Asked from", ", ".join(f"{p.name} (sha256 {p.sha256})" for p in asked)),
        ("Rows asked", f"{len(evaluation.rows):,} of {evaluation.available_rows:,}"),
        ("Device", f"{facts.get('device', 'unknown')}, {facts.get('precision', 'unknown')}"),
        ("Base model", run.config.model),
    ]
    return [*known, ("Parent run", run.parent)] if run.parent else known
