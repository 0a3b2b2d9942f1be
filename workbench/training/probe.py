"""Test drive: two real steps on the longest examples. ``python -m workbench.training.probe RUN_DIR``.

Everything is as in a run, only short: the same loading, method, optimizer and micro-batches. What it
measured is written to ``probe.json`` in the run directory, or why it failed.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch
from transformers import set_seed

from workbench.hardware import cpu_cores
from workbench.measurements import Measurement, ProbeFailure, write_outcome
from workbench.models.rendering import load_tokenizer
from workbench.models.sources import source_of
from workbench.models.store import ModelStore
from workbench.runs.events import StepEvent
from workbench.runs.store import Run, open_run
from workbench.settings import Settings
from workbench.training.assembly import assemble
from workbench.training.data import PreparedData, prepare_data
from workbench.training.failures import explain_failure
from workbench.training.memory_watch import MemoryWatch
from workbench.training.reporter import Reporter

STEPS = 2


def probe(run: Run, settings: Settings) -> Measurement:
    """Measure speed and memory of a run in two steps.

    Raises:
        WorkbenchError: Something the person can act on.
    """
    torch.set_num_threads(cpu_cores())
    set_seed(run.config.seed)
    model_dir = ModelStore(settings).directory(source_of(run.config))
    tokenizer = load_tokenizer(model_dir)
    data = _hardest(prepare_data(run, tokenizer, model_dir, lambda event: None), run)
    steps: list[StepEvent] = []

    def keep(event: object) -> None:
        if isinstance(event, StepEvent):
            steps.append(event)

    with MemoryWatch() as memory:
        started = time.perf_counter()
        reporter = Reporter(keep, lambda: False)
        assembly = assemble(run, data, tokenizer, model_dir, reporter, lambda event: None)
        loading_seconds = time.perf_counter() - started - assembly.asked_seconds
        assembly.trainer.train()
    fastest = min(steps, key=lambda step: step.seconds / step.tokens)  # the first one warms up
    return Measurement(
        tokens_per_second=fastest.tokens / fastest.seconds,
        peak_memory_bytes=memory.peak_bytes,
        loading_seconds=loading_seconds,
        device=assembly.compute.device,
        precision=assembly.compute.precision,
    )


def _hardest(data: PreparedData, run: Run) -> PreparedData:
    """Return the data with only as many examples as two steps take, the longest ones, in every step."""
    assert run.config.batch_size is not None
    examples = sorted(data.train, key=lambda example: len(example.input_ids), reverse=True)
    longest = examples[: run.config.batch_size]
    part = replace(data.parts[0], train=longest * STEPS, validation=[], watched=[])
    return replace(data, parts=[part], general_check=[])


def main(run_dir: Path) -> int:
    """Return 0 when it was measured, 1 when it failed; either is written down."""
    try:
        write_outcome(run_dir, probe(open_run(run_dir), Settings.from_environment()))
    except BaseException as error:  # noqa: BLE001  # the process boundary
        traceback.print_exc()
        failure = explain_failure(error)
        write_outcome(run_dir, ProbeFailure(failure.message, failure.hint))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
