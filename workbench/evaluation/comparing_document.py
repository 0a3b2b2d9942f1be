"""A comparison of runs as one JSON document, for scripts and other machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from workbench.evaluation.comparing import Column, ComparedRow, RunComparison
from workbench.evaluation.document import finite, metrics_json
from workbench.runs.record import read_record
from workbench.runs.side_by_side import split_settings


def comparison_json(comparison: RunComparison) -> dict[str, Any]:
    """Return a comparison as a JSON document; models are named by the run's id, or ``base``."""
    first, request, selection = comparison.runs[0], comparison.request, comparison.selection
    parts = request.asked_parts(first)
    different, same = split_settings(comparison.runs)
    document = {
        "first": first.id,
        "runs": [run.id for run in comparison.runs],
        "names": {column.id: column.name for column in comparison.columns},
        "checkpoint": request.checkpoint,
        "task": comparison.task,
        "complete": comparison.is_complete,
        "data": {
            "held_back_by": None if request.data else first.id,
            "parts": [{"name": part.name, "sha256": part.sha256} for part in parts],
            "rows": comparison.asked_rows,
            "available_rows": selection.available,
            "answered_rows": len(comparison.rows),
            "too_long_rows": comparison.too_long,
            "left_out_rows": request.left_out_rows(first),
            "learned_rows": selection.learned,
            "left_out_learned_rows": selection.left_out,
            "unknown_training_data": list(selection.unknown),
        },
        **metrics_json([(column.id, column.metrics) for column in comparison.columns]),
        "differences": {
            column.id: asdict(column.difference) | {"more_than_chance": column.difference.is_clear}
            for column in comparison.columns
            if column.difference
        },
        "forgetting": {
            column.id: _forgetting(column) for column in comparison.columns if column.run
        },
        "rows": [_row_json(row) for row in comparison.rows],
        "curves": {run.id: read_record(run.events_path).losses() for run in comparison.runs},
        "facts": {column.id: column.facts for column in comparison.columns},
        "settings": {run.id: run.config.model_dump() for run in comparison.runs},
        "different_settings": {
            label: dict(zip((run.id for run in comparison.runs), values, strict=True))
            for label, values in different
        },
        "same_settings": {label: values[0] for label, values in same},
    }
    found: dict[str, Any] = finite(document)
    return found


def _forgetting(column: Column) -> dict[str, Any] | None:
    return asdict(column.forgetting) if column.forgetting else None


def _row_json(row: ComparedRow) -> dict[str, Any]:
    return {
        "dataset": row.row.dataset,
        "row": row.row.row,
        "question": row.row.question,
        "expected": row.row.expected,
        "answers": {name: asdict(side) for name, side in row.sides.items()},
    }
