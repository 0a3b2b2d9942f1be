"""A comparison of runs in words: which rows were asked, how each run differs from the first, and what was forgotten."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workbench.evaluation.card import (
    FEW_ROWS,
    difference_words,
    figure_words,
    number_words,
    points_words,
)
from workbench.evaluation.comparing import Column, RunComparison
from workbench.evaluation.metrics import KINDS
from workbench.evaluation.tasks import TASK_WORDS, Task
from workbench.runs.side_by_side import OTHER_MODELS

MAIN_FIGURES: dict[Task, tuple[str, ...]] = {
    "labels": ("accuracy", "macro_f1", "loss"),
    "json": ("field_f1", "valid_json", "loss"),
    "number": ("numeric_match", "no_number", "loss"),
    "text": ("chrf", "rouge_l", "loss"),
}
PRINTED_CHARACTERS = 160  # into a file; a terminal says how wide it is
MANY = 3  # differences: with so many, one that is chance is no longer rare


def comparison_rows_words(comparison: RunComparison) -> str:
    """Say which rows were asked, and what is missing."""
    selection, count = comparison.selection, len(comparison.rows)
    first, data = comparison.names[comparison.runs[0].id], comparison.request.data
    where = f"of {data.name}" if data else f"that “{first}” held back"
    words = f"{count:,} rows {where}, compared as {TASK_WORDS[comparison.task]}"
    if comparison.asked_rows < selection.available:
        words += f"; chosen from {selection.available:,}"
    unusable = max(column.metrics.unusable for column in comparison.columns)
    for number, what in (
        (comparison.asked_rows - count - comparison.too_long, "not answered yet"),
        (comparison.too_long, "longer than one of the models can read"),
        (
            comparison.request.left_out_rows(comparison.runs[0]),
            "of the file without a usable question and answer",
        ),
        (unusable, "whose expected answer cannot be compared this way"),
    ):
        words += f"; {number:,} {what}" if number else ""
    return f"{words}."


def learned_words(comparison: RunComparison) -> list[str]:
    """Say which rows were left out because a run learned from them, and of which runs nobody knows."""
    selection, names = comparison.selection, comparison.names
    lines = []
    if selection.left_out:
        of_each = ", ".join(f"“{names[i]}” from {n:,}" for i, n in selection.learned.items())
        verb = "row was" if selection.left_out == 1 else "rows were"
        lines.append(
            f"{selection.left_out:,} {verb} left out, because a run learned from the same questions: "
            f"{of_each}. What a run has seen in training says nothing about what it can do."
        )
        if selection.left_out > selection.available:
            lines.append("Most rows are gone. Ask those of a file that none of the runs has seen.")
    for run_id in selection.unknown:
        lines.append(
            f"The rows that “{names[run_id]}” learned from are gone or were changed, so nobody can tell "
            "whether it has seen some of these."
        )
    return lines


def comparison_verdict(comparison: RunComparison) -> list[str]:
    """Say in sentences what came out, and what to beware of."""
    lines = learned_words(comparison)
    names = comparison.names
    first = f"“{names[comparison.runs[0].id]}”"
    runs = [column for column in comparison.columns if column.run]
    for column in runs:
        if column.difference:
            lines.append(
                difference_words(comparison.task, column.difference, f"“{column.name}”", first)
            )
    count = len(comparison.rows)
    if count and count < FEW_ROWS:
        lines.append(
            f"{count:,} rows are few: in brackets is where 95 % of such samples would put the figure."
        )
    if sum(column.difference is not None for column in runs) >= MANY:
        lines.append(
            "Each run is compared by itself: of twenty differences that are only chance, one looks clear."
        )
    if len({run.config.model for run in comparison.runs}) > 1:
        lines.append(OTHER_MODELS)
    return lines


def chance_words(column: Column) -> str:
    """Say how a model differs from the first run, and whether that is more than chance."""
    if column.difference is None:
        return "" if column.run is None else "compared with this"
    points = points_words(column.difference.difference)
    chance = "more than chance" if column.difference.is_clear else "may be chance"
    return f"{points}, {chance}" if points else "-"


def kept_words(column: Column) -> str:
    """Say which share of what the base knew a run kept; empty where it was not measured."""
    return figure_words(column.forgetting.kept, "share") if column.forgetting else ""


def extra_lines(comparison: RunComparison) -> list[tuple[str, str, list[str]]]:
    """Return what stands below the figures: label, what it means, and the words of every model."""
    columns = comparison.columns
    first = comparison.names[comparison.runs[0].id]
    lines = [
        (
            "keeps of what it knew",
            "from the loss on general questions, beside its base",
            [kept_words(column) for column in columns],
        ),
        (
            f"difference to “{first}”, points",
            "of the mean score of a row, bootstrapped over pairs of the same row",
            [chance_words(column) for column in columns],
        ),
    ]
    return [line for line in lines if any(line[2])]


def print_comparison(comparison: RunComparison) -> None:
    """Print the table and what it means."""
    console = Console(width=None if sys.stdout.isatty() else PRINTED_CHARACTERS, highlight=False)
    console.print(comparison_rows_words(comparison), markup=False, soft_wrap=True)
    console.print()
    console.print(comparison_table(comparison))
    console.print()
    for line in comparison_verdict(comparison):
        console.print(line, markup=False, soft_wrap=True)


def comparison_table(comparison: RunComparison) -> Table:
    """Return the table for a terminal: a line for each model, the main figures, the difference to the first."""
    figures = MAIN_FIGURES[comparison.task]
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("")
    for name in figures:
        table.add_column(KINDS[name].label, justify="right")
    table.add_column("keeps", justify="right")
    table.add_column("difference to the first run, points", justify="right")
    for column in comparison.columns:
        found = column.metrics.figures
        cells = [
            figure_words(found[name], KINDS[name].unit)
            if name in found
            else number_words(None, "loss")
            for name in figures
        ]
        cells += [kept_words(column), chance_words(column)]
        table.add_row(Text(column.name), *map(Text, cells))
    return table
