"""Runs side by side: pure functions from runs to HTML, of our own words and escaped values. No gradio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from workbench.runs.side_by_side import (
    FEWEST,
    MOST,
    OTHER_MODELS,
    OTHER_ROWS,
    RUN_COLORS,
    Row,
    checked_on,
    distinct_names,
    split_settings,
)
from workbench.runs.status import RunSnapshot
from workbench.ui.runs_views import (
    RunEntry,
    best_loss,
    duration_words,
    last_loss,
    state_words,
)

NOT_MEASURED = "not measured"
CHOOSE_MORE = (
    f"Choose {FEWEST} to {MOST} runs to see their loss in one chart and what was set differently."
)


def comparison_html(entries: Sequence[RunEntry]) -> str:
    """Draw figures and settings of several runs side by side; settings that are the same are folded away."""
    names = distinct_names([entry.run for entry in entries])
    different, same = split_settings([entry.run for entry in entries])
    warnings = "".join(f'<p class="wb-warning">{text}</p>' for text in caveats(entries))
    settings = (
        _rows_html(different)
        if different
        else f'<tr><td colspan="{len(entries) + 1}">All settings are the same.</td></tr>'
    )
    return (
        f'<div class="wb-compare">{warnings}<div class="wb-wide"><table>{_head_html(names)}<tbody>'
        f"{_title_html('How they went', len(entries))}{_rows_html(figure_rows(entries))}"
        f"{_title_html('What was set differently', len(entries))}{settings}</tbody></table></div>"
        f"<details><summary>The {len(same)} settings that are the same</summary>"
        f"<table><tbody>{_rows_html(same)}</tbody></table></details></div>"
    )


def key_html(names: Sequence[str]) -> str:
    """Say which color of the chart is which run."""
    runs = "".join(f"<span>{_name_html(number, name)}</span>" for number, name in enumerate(names))
    return (
        f'<div class="wb-key">{runs}</div><p class="wb-help">Thick: training loss, smoothed. '
        "Thin with dots: validation loss. Lower is better.</p>"
    )


def caveats(entries: Sequence[RunEntry]) -> list[str]:
    """Say where the numbers cannot be compared."""
    models = {entry.run.config.model for entry in entries}
    rows = {checked_on(entry.run) for entry in entries if entry.snapshot.best_evaluation}
    return [
        *([OTHER_MODELS] if len(models) > 1 else []),
        *([OTHER_ROWS] if len(rows) > 1 else []),
    ]


def figure_rows(entries: Sequence[RunEntry]) -> list[Row]:
    """Return how the runs went, one row a figure; what none of them has is left out."""
    shown: list[tuple[str, Callable[[RunSnapshot], str]]] = [
        ("State", state_words),
        ("Best validation loss", _best_words),
        ("Last training loss", _last_words),
        ("General skills", general_change),
        ("Steps", _step_words),
        ("Took", duration_words),
        ("Speed", _speed_words),
    ]
    rows = [
        (label, [words(entry.snapshot) or NOT_MEASURED for entry in entries])
        for label, words in shown
    ]
    if not caveats(entries):
        rows = [
            _mark_lowest(row, entries) if row[0] == "Best validation loss" else row for row in rows
        ]
    return [row for row in rows if set(row[1]) != {NOT_MEASURED}]


def general_change(snapshot: RunSnapshot) -> str:
    """Say how the loss on general questions changed from the base model to the end."""
    losses = [event.loss for event in snapshot.general if event.loss is not None]
    if len(losses) < 2:
        return ""
    return f"loss {losses[-1] / losses[0] - 1:+.1%}"


def _best_words(snapshot: RunSnapshot) -> str:
    best = snapshot.best_evaluation
    return f"{best.loss:.3f} at step {best.step:,}" if best and best.loss is not None else ""


def _last_words(snapshot: RunSnapshot) -> str:
    last = last_loss(snapshot)
    return "" if last is None else f"{last:.3f}"


def _step_words(snapshot: RunSnapshot) -> str:
    return f"{snapshot.step:,} of {snapshot.total_steps:,}" if snapshot.total_steps else ""


def _speed_words(snapshot: RunSnapshot) -> str:
    speed = snapshot.tokens_per_second
    return f"{speed:,.0f} tokens/s" if speed else ""


def _mark_lowest(row: Row, entries: Sequence[RunEntry]) -> Row:
    losses = [best_loss(entry.snapshot) for entry in entries]
    known = [loss for loss in losses if loss is not None]
    if len(known) < 2:
        return row
    return row[0], [
        f"{words} (lowest)" if loss == min(known) else words
        for loss, words in zip(losses, row[1], strict=True)
    ]


def _head_html(names: Sequence[str]) -> str:
    cells = "".join(f"<th>{_name_html(number, name)}</th>" for number, name in enumerate(names))
    return f"<thead><tr><td></td>{cells}</tr></thead>"


def _name_html(number: int, name: str) -> str:
    color = RUN_COLORS[number % len(RUN_COLORS)]
    return f'<span class="wb-dot" style="background:{color}"></span><bdi>{escape(name)}</bdi>'


def _title_html(text: str, columns: int) -> str:
    return f'<tr class="wb-part"><th colspan="{columns + 1}">{text}</th></tr>'


def _rows_html(rows: Sequence[Row]) -> str:
    return "".join(
        f"<tr><th>{escape(label)}</th>"
        + "".join(f"<td><bdi>{escape(value)}</bdi></td>" for value in values)
        + "</tr>"
        for label, values in rows
    )
