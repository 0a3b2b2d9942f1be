"""An evaluation as one JSON document, for scripts and other machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from workbench.evaluation.metrics import Metrics
from workbench.evaluation.request import BASE, TUNED
from workbench.evaluation.result import Evaluation, RowResult
from workbench.runs.record import read_record


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as a JSON document: metrics are plain numbers, intervals stand beside them."""
    run, request = evaluation.run, evaluation.request
    parts = request.asked_parts(run)
    document = {
        "run": run.id,
        "name": run.name,
        "model": run.config.model,
        "checkpoint": request.checkpoint,
        "strength": request.strength,
        "task": evaluation.task,
        "complete": evaluation.is_complete,
        "data": {
            "held_back": request.data is None,
            "parts": [{"name": part.name, "sha256": part.sha256} for part in parts],
            "rows": evaluation.asked_rows,
            "available_rows": evaluation.available_rows,
            "answered_rows": len(evaluation.rows),
            "too_long_rows": evaluation.too_long,
            "left_out_rows": request.left_out_rows(run),
            "unusable_rows": evaluation.unusable,
            "learned_rows": evaluation.learned_rows,
        },
        **metrics_json(list(evaluation.metrics.items())),
        "comparison": asdict(evaluation.comparison) if evaluation.comparison else None,
        "forgetting": asdict(evaluation.forgetting) if evaluation.forgetting else None,
        "plain_questions": [asdict(row) for row in evaluation.plain],
        "judged": [asdict(judged) for judged in evaluation.judged],
        "rows": [_row_json(row) for row in evaluation.rows],
        "curves": read_record(run.events_path).losses(),
        "facts": evaluation.facts,
        "settings": run.config.model_dump(),
    }
    found: dict[str, Any] = finite(document)
    return found


def metrics_json(named: Sequence[tuple[str, Metrics]]) -> dict[str, Any]:
    """Return what was measured of several models, each under its name."""
    return {
        "metrics": {n: {k: f.value for k, f in m.figures.items()} for n, m in named},
        "intervals": {n: {k: [f.low, f.high] for k, f in m.figures.items()} for n, m in named},
        "counts": {n: {k: f.count for k, f in m.figures.items()} for n, m in named},
        "parts": {n: [asdict(part) for part in m.parts] for n, m in named},
        "confusion": {n: asdict(m.confusion) for n, m in named if m.confusion},
    }


def _row_json(row: RowResult) -> dict[str, Any]:
    document: dict[str, Any] = {
        "dataset": row.dataset,
        "row": row.row,
        "question": row.question,
        "expected": row.expected,
    }
    for name, side in ((BASE, row.base), (TUNED, row.tuned)):
        if side:
            document |= {
                name: side.answer,
                f"{name}_right": side.right,
                f"{name}_score": side.score,
                f"{name}_loss": side.loss,
                f"{name}_ended": side.ended,
            }
    return document


def finite(value: Any) -> Any:
    """Return a value with ``None`` for every number that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
