"""Run directories as trainings leave them, without any training."""

from __future__ import annotations

import json
import time

from workbench.config import build_config
from workbench.runs.events import (
    EvaluationEvent,
    FinishedEvent,
    GeneralEvent,
    PhaseEvent,
    StartEvent,
    StepEvent,
    append_event,
)
from workbench.runs.store import DataPart, DataReference

PART = DataPart("d", "counting.json", "/nowhere/d.jsonl", "0" * 64, 8)
DATA = DataReference((PART,), None, 0.1, 42)
GONE_PID = 2**22 + 1  # above the largest pid of Linux


def make_run(store, name="run", values=None, data=DATA, **told):
    """Create a run whose process has ended; ``told`` are arguments of ``tell``."""
    settings = {"epochs": 3.0, "learning_rate": 1e-4, "batch_size": 8, "max_length": 512}
    run = store.create(build_config(settings, values or {}), data, name, {}, 60.0)
    end_process(run)
    tell(run, **told)
    return run


def end_process(run):
    """Leave a run as one whose process has ended."""
    run.process_path.write_text(json.dumps({"pid": GONE_PID, "create_time": 0.0}))


def tell(
    run,
    steps=10,
    start_loss=2.0,
    validation=(2.1, 1.4, 1.6),
    general=(1.0, 1.02),
    outcome="finished",
):
    """Write the events of a whole run, as many lines as it would have."""
    began = time.time() - steps
    events = [
        PhaseEvent(phase="starting", time=began),
        PhaseEvent(phase="training", time=began),
        StartEvent(
            total_steps=steps, train_rows=72, validation_rows=8, left_out_rows=0,
            supervised_tokens=900, parameters=10**6, trained_parameters=10**4, device="cpu",
            precision="fp32", threads=2, time=began,
        ),
    ]  # fmt: skip
    events += [
        StepEvent(
            step=number, epoch=3 * number / steps, loss=start_loss / (1 + number / steps),
            learning_rate=1e-4, grad_norm=1.0, tokens=400, seconds=1.0, memory_bytes=10**9,
            token_accuracy=0.5, time=began + number,
        )
        for number in range(1, steps + 1)
    ]  # fmt: skip
    for number, loss in enumerate(validation):
        at = round(steps * number / max(1, len(validation) - 1))
        events.append(EvaluationEvent(step=at, loss=loss, seconds=0.1, time=began + at))
    for number, loss in enumerate(general):
        at = steps if number else 0
        events.append(GeneralEvent(step=at, loss=loss, time=began + at))
    if outcome:
        events.append(
            FinishedEvent(
                outcome=outcome,
                message="Done.",
                model_saved=outcome != "failed",
                time=began + steps,
            )
        )
    for event in sorted(events, key=lambda event: event.time):
        append_event(run.events_path, event)
