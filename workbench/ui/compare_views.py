"""Runs side by side: pure functions from runs to HTML, of our own words and escaped values. No gradio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from workbench.config import TrainingConfig, field_extra, setting_fields
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.ui.charts import RUN_COLORS
from workbench.ui.runs_views import (
    RunEntry,
    best_loss,
    data_names,
    duration_words,
    last_loss,
    method_label,
    model_label,
    state_words,
    when_words,
)

Row = tuple[str, list[str]]  # what it is, and its value in each run

FEWEST, MOST = 2, 6
NOT_MEASURED, NOT_SET, NOT_USED = "not measured", "none", "not used"
CHOOSE_MORE = (
    f"Choose {FEWEST} to {MOST} runs to see their loss in one chart and what was set differently."
)
OTHER_ROWS = (
    "These runs were not checked on the same rows, so their validation losses do not tell which is better. "
    "Give them the same data, validation share and seed for that."
)
OTHER_MODELS = (
    "These runs have different models. Loss is counted per token, and models cut text into tokens in "
    "different ways, so compare losses only within one model."
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


def distinct_names(runs: Sequence[Run]) -> list[str]:
    """Return the runs' names; with their time, and a number if need be, where several have the same."""
    counts = Counter(run.name for run in runs)
    names = [
        run.name if counts[run.name] == 1 else f"{run.name}, {when_words(run)}" for run in runs
    ]
    return [
        name if name not in names[:number] else f"{name} ({names[:number].count(name) + 1})"
        for number, name in enumerate(names)
    ]


def caveats(entries: Sequence[RunEntry]) -> list[str]:
    """Say where the numbers cannot be compared."""
    models = {entry.run.config.model for entry in entries}
    rows = {_checked_on(entry.run) for entry in entries if entry.snapshot.best_evaluation}
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


def split_settings(runs: Sequence[Run]) -> tuple[list[Row], list[Row]]:
    """Return the settings that differ, and those that are the same with their one value.

    Settings that none of the methods uses are in neither.
    """
    different: list[Row] = []
    same: list[Row] = []
    for label, values in _setting_rows(runs):
        if len(set(values)) > 1:
            different.append((label, values))
        else:
            same.append((label, values[:1]))
    return different, same


def setting_words(name: str, value: Any) -> str:
    """Return a setting's value as text, with its unit."""
    if value is None or value == "":
        return NOT_SET
    if isinstance(value, bool):
        return "on" if value else "off"
    unit = field_extra(name)["unit"]
    shown = (
        value
        if isinstance(value, str)
        else f"{value:g}"
        if isinstance(value, float)
        else f"{value:,}"
    )
    return f"{shown} {unit}" if unit else str(shown)


def general_change(snapshot: RunSnapshot) -> str:
    """Say how the loss on general questions changed from the base model to the end."""
    losses = [event.loss for event in snapshot.general if event.loss is not None]
    if len(losses) < 2:
        return ""
    return f"loss {losses[-1] / losses[0] - 1:+.1%}"


def _setting_rows(runs: Sequence[Run]) -> list[Row]:
    rows: list[Row] = [
        ("Model", [model_label(run) for run in runs]),
        ("Method", [method_label(run) for run in runs]),
        ("Data", [data_names(run) for run in runs]),
        ("Checked on", [_validation_words(run) for run in runs]),
        ("Begins with", [_beginning(run) for run in runs]),
    ]
    names = [name for name in setting_fields() if name not in ("model", "method")]
    for name in names:
        if any(run.config.uses(name) for run in runs):
            values = [
                setting_words(name, getattr(run.config, name))
                if run.config.uses(name)
                else NOT_USED
                for run in runs
            ]
            rows.append((str(TrainingConfig.model_fields[name].title), values))
    return rows


def _beginning(run: Run) -> str:
    return f"what {run.parent} learned" if run.continues else "the base model"


def _validation_words(run: Run) -> str:
    if run.data.validation:
        return run.data.validation.name
    return "rows held back" if run.data.validation_share else NOT_SET


def _checked_on(run: Run) -> tuple[Any, ...]:
    """Return what decides which rows a run is checked on."""
    if run.data.validation:
        return (run.data.validation.sha256,)
    data = run.data
    return (*sorted(part.sha256 for part in data.parts), data.validation_share, data.seed)


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
