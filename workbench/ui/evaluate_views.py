"""What the Evaluate tab says: pure functions from an evaluation to HTML and tables. Imports no gradio.

HTML is made here only, from our own words and escaped values. Imports the libraries for metrics, which take
seconds, so the tab imports this when it is first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workbench.child_progress import Progress
from workbench.evaluation.card import figure_lines, rows_words, verdict
from workbench.evaluation.metrics import Confusion, PartFigures
from workbench.evaluation.plain import PlainRow
from workbench.evaluation.result import Evaluation, RowResult
from workbench.words import describe_duration, describe_rows

MOST_ROWS = 500
HEADERS = ["Row", "Question", "Expected", "Before training", "Tuned", "Loss"]
WIDTHS = ["8%", "22%", "20%", "20%", "20%", "10%"]


def card_html(evaluation: Evaluation) -> str:
    """Draw the figures of both models, per label or field, and what was taken for what."""
    if not evaluation.rows:
        return ""
    said = "".join(f"<p>{escape(line)}</p>" for line in verdict(evaluation))
    parts = [f'<p class="wb-help">{escape(rows_words(evaluation))}</p>{said}', _figures(evaluation)]
    word = "Label" if evaluation.task == "labels" else "Field"
    for name, metrics in evaluation.metrics.items():
        if metrics.confusion:
            parts.append(_folded(f"What was taken for what, {name}", _confusion(metrics.confusion)))
        if metrics.parts:
            parts.append(_folded(f"{word} by {word.lower()}, {name}", _parts(word, metrics.parts)))
    if evaluation.plain:
        parts.append(_folded("Plain questions, before and after", _plain(evaluation.plain)))
    return f'<div class="wb-compare">{"".join(parts)}</div>'


def progress_words(progress: Progress | None) -> str:
    """Say how far an evaluation is, or how it ended, as plain text."""
    if progress is None or progress.state == "finished":
        return ""
    if progress.state == "stopped":
        return "Stopped. What was answered is kept: Evaluate goes on from there."
    if progress.state == "failed":
        return f"{progress.message} {progress.hint}".strip()
    words = progress.words
    if progress.total:
        words += f": {progress.done:,} of {progress.total:,}"
    if progress.eta_seconds:
        words += f", about {describe_duration(progress.eta_seconds)} left of this part"
    return f"{words}…"


def kept_rows(rows: Sequence[RowResult], which: str, order: str) -> list[RowResult]:
    """Return the rows that a filter lets through, in order.

    Args:
        rows: All rows.
        which: ``all``, or what a ``RowResult`` must be: ``tuned_wrong`` or ``got_worse``.
        order: ``file``, or ``loss`` for the highest first.
    """
    kept = [row for row in rows if which == "all" or getattr(row, which)]
    if order == "loss":
        kept.sort(key=_loss, reverse=True)
    return kept


def rows_table(rows: Sequence[RowResult]) -> list[list[str]]:
    """Return the cells of ``HEADERS`` for the first rows."""
    return [
        [
            str(row.row),
            row.question,
            row.expected,
            row.base.answer if row.base else "",
            row.tuned.answer if row.tuned else "",
            f"{_loss(row):.2f}",
        ]
        for row in rows[:MOST_ROWS]
    ]


def shown_words(count: int) -> str:
    """Say how many of ``count`` rows a table shows."""
    if count > MOST_ROWS:
        return f"The first {MOST_ROWS:,} of {count:,} rows; the JSON file has all"
    return describe_rows(count)


def _loss(row: RowResult) -> float:
    side = row.tuned or row.base
    return side.loss if side else 0.0


def _figures(evaluation: Evaluation) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in evaluation.metrics)
    lines = []
    for kind, figures in figure_lines(evaluation.metrics.values()):
        cells = "".join(f"<td>{figure}</td>" for figure in figures)
        lines.append(f'<tr><th title="{escape(kind.help)}">{escape(kind.label)}</th>{cells}</tr>')
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _confusion(confusion: Confusion) -> str:
    heads = "".join(f"<th>{escape(label)}</th>" for label in confusion.labels)
    lines = ""
    for label, counts in zip(confusion.labels, confusion.counts, strict=True):
        if total := sum(counts):
            cells = "".join(_shaded(count, count / total) for count in counts)
            lines += f"<tr><th>{escape(label)}</th>{cells}</tr>"
    return f"<table><thead><tr><th>expected</th>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _shaded(count: int, share: float) -> str:
    return f'<td style="background: rgba(79, 70, 229, {0.5 * share:.2f})">{count:,}</td>'


def _parts(word: str, parts: Sequence[PartFigures]) -> str:
    lines = "".join(
        f"<tr><th>{escape(part.name)}</th><td>{part.precision:.0%}</td><td>{part.recall:.0%}</td>"
        f"<td>{part.f1:.0%}</td><td>{part.count:,}</td></tr>"
        for part in parts
    )
    heads = "".join(f"<th>{head}</th>" for head in (word, "precision", "recall", "F1", "expected"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _plain(rows: Sequence[PlainRow]) -> str:
    lines = "".join(
        f"<tr><th>{escape(row.question)}</th><td>{_judged(row.base, row.base_right)}</td>"
        f"<td>{_judged(row.tuned, row.tuned_right)}</td></tr>"
        for row in rows
    )
    heads = "<tr><th>question</th><th>base</th><th>tuned</th></tr>"
    return f"<table><thead>{heads}</thead><tbody>{lines}</tbody></table>"


def _judged(answer: str, is_right: bool) -> str:
    return f"{'✓' if is_right else '✗'} {escape(answer) or '(empty)'}"


def _folded(title: str, inner: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{inner}</details>"
