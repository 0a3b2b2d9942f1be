"""Several runs side by side, in words: their names, and what was set differently. Page and report use it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workbench.config import TrainingConfig, field_extra, setting_fields
from workbench.errors import WorkbenchError
from workbench.models.sources import source_of
from workbench.presets import methods
from workbench.runs.store import Run

Row = tuple[str, list[str]]  # what it is, and its value in each run

FEWEST, MOST = 2, 6  # runs side by side: more have no colours, and no room beside each other
NOT_SET, NOT_USED = "none", "not used"
OTHER_ROWS = (
    "These runs were not checked on the same rows, so their validation losses do not tell which is better. "
    "Give them the same data, validation share and seed for that."
)
OTHER_MODELS = (
    "These runs have different models. Loss is counted per token, and models cut text into tokens in "
    "different ways, so compare losses only within one model."
)
# Told apart with any colour vision, on white and on black: Okabe and Ito, "Color Universal Design" (2008),
# https://jfly.uni-koeln.de/color/, without its black and yellow.
RUN_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


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


def checked_on(run: Run) -> tuple[Any, ...]:
    """Return what decides which rows a run is checked on."""
    if run.data.validation:
        return (run.data.validation.sha256,)
    data = run.data
    return (*sorted(part.sha256 for part in data.parts), data.validation_share, data.seed)


def model_label(run: Run) -> str:
    """Return what the page calls the run's model."""
    try:
        return source_of(run.config).label
    except WorkbenchError:  # a folder that is gone
        return run.config.model


def method_label(run: Run) -> str:
    """Return what the page calls the run's method."""
    return methods()[run.config.method].label


def data_names(run: Run) -> str:
    """Name the datasets a run learned from, with their weights where they are not 1."""
    return " + ".join(
        part.name if part.weight == 1 else f"{part.name} (weight {part.weight:g})"
        for part in run.data.parts
    )


def when_words(run: Run) -> str:
    """Say when a run was started, so that texts sort by time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))


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
