"""What the Evaluate tab says of several runs: pure functions to HTML and tables. Imports no gradio.

HTML is made here only, from our own words and escaped values. Imports the libraries for metrics, as ``evaluate_views``.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workbench.evaluation.card import figure_lines
from workbench.evaluation.comparing import ComparedRow, RunComparison
from workbench.evaluation.comparing_words import (
    comparison_rows_words,
    comparison_verdict,
    extra_lines,
)
from workbench.runs.side_by_side import split_settings
from workbench.ui.evaluate_views import MOST_ROWS


def compared_html(comparison: RunComparison) -> str:
    """Draw the figures of all models beside each other, and what was set differently."""
    said = "".join(f"<p>{escape(line)}</p>" for line in comparison_verdict(comparison))
    rows = escape(comparison_rows_words(comparison))
    return (
        f'<div class="wb-compare"><p class="wb-help">{rows}</p>{said}{_figures(comparison)}'
        f"{_settings(comparison)}</div>"
    )


def headers(comparison: RunComparison) -> list[str]:
    """Return what stands above the cells of ``compared_rows``."""
    return ["Row", "Question", "Expected", *(column.name for column in comparison.columns)]


def widths(comparison: RunComparison) -> list[str]:
    """Return how wide the columns of ``compared_rows`` are: the question has as much as two answers."""
    answers = len(comparison.columns) + 1  # with the one expected
    share = f"{94 / (answers + 2):.1f}%"
    return ["6%", f"{2 * 94 / (answers + 2):.1f}%", *[share] * answers]


def kept_rows(comparison: RunComparison, which: str) -> list[ComparedRow]:
    """Return the rows that a filter lets through; ``which`` is ``all`` or ``differ``."""
    return [row for row in comparison.rows if which == "all" or row.is_told_apart]


def compared_rows(rows: Sequence[ComparedRow]) -> list[list[str]]:
    """Return the cells of the first rows, with every model's answer."""
    return [
        [
            str(row.row.row),
            row.row.question,
            row.row.expected,
            *(side.answer for side in row.sides.values()),
        ]
        for row in rows[:MOST_ROWS]
    ]


def _figures(comparison: RunComparison) -> str:
    columns = comparison.columns
    lines = [
        (kind.label, kind.help, cells)
        for kind, cells in figure_lines(column.metrics for column in columns)
    ]
    lines += extra_lines(comparison)
    body = "".join(_line(label, cells, words) for label, words, cells in lines)
    return _table([column.name for column in columns], body)


def _settings(comparison: RunComparison) -> str:
    different, _ = split_settings(comparison.runs)
    if not different:
        return '<p class="wb-help">All settings are the same.</p>'
    body = "".join(_line(label, values) for label, values in different)
    table = _table(list(comparison.names.values()), body)
    return f"<details><summary>What was set differently</summary>{table}</details>"


def _table(names: Sequence[str], body: str) -> str:
    heads = "".join(f"<th><bdi>{escape(name)}</bdi></th>" for name in names)
    return (
        f'<div class="wb-wide"><table><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _line(label: str, cells: Sequence[str], words: str = "") -> str:
    shown = "".join(f"<td><bdi>{escape(cell)}</bdi></td>" for cell in cells)
    return f'<tr><th title="{escape(words)}">{escape(label)}</th>{shown}</tr>'
