"""How the command line tells of runs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.services import Services

EXIT_CODES = {"failed": 1, "lost": 1, "stopped": 3}


def outcome_line(run: Run, snapshot: RunSnapshot) -> str:
    """Say in one line how a run is or how it ended."""
    if snapshot.is_active:
        steps = f", step {snapshot.step} of {snapshot.total_steps}" if snapshot.total_steps else ""
        return f"{run.id}: {snapshot.state} ({snapshot.phase}{steps})."
    loss = f" Loss {snapshot.steps[-1].loss}." if snapshot.steps else ""
    return f"{run.id}: {snapshot.state}. {snapshot.message} {snapshot.hint}".rstrip() + loss


def print_run(services: Services, run: Run, options: argparse.Namespace, line: str) -> None:
    """Print the line, or with ``--json`` everything about the run."""
    if options.json:
        snapshot = services.supervisor.snapshot(run)
        print(json.dumps(_details(run, snapshot), indent=2, ensure_ascii=False))
    else:
        print(line)


def summary(run: Run, snapshot: RunSnapshot) -> dict[str, Any]:
    """Return what a list of runs has of each."""
    return {
        "id": run.id,
        "name": run.name,
        "state": snapshot.state,
        "step": snapshot.step,
        "total_steps": snapshot.total_steps,
        "model": run.config.model,
        "method": run.config.method,
        "created": run.created,
    }


def _details(run: Run, snapshot: RunSnapshot) -> dict[str, Any]:
    last = snapshot.evaluations[-1] if snapshot.evaluations else None
    return summary(run, snapshot) | {
        "directory": str(run.directory),
        "phase": snapshot.phase,
        "message": snapshot.message,
        "hint": snapshot.hint,
        "loss": snapshot.steps[-1].loss if snapshot.steps else None,
        "validation_loss": last.loss if last else None,
        "validation_loss_by_dataset": last.by_dataset if last else {},
        "general_loss": [event.loss for event in snapshot.general],
        "elapsed_seconds": snapshot.elapsed_seconds,
        "eta_seconds": snapshot.eta_seconds,
        "tokens_per_second": snapshot.tokens_per_second,
        "memory_bytes": snapshot.memory_bytes,
        "warnings": list(snapshot.warnings),
        "model_saved": snapshot.model_saved,
        "config": run.config.model_dump(),
        "reasons": run.reasons,
        "data": asdict(run.data),
    }
