"""Test drive: two real steps on the longest examples. ``python -m workbench.training.probe RUN_DIR``.

Everything is as in a run, only short: the same loading, method, optimizer and micro-batches. What it
measured is written to ``probe.json`` in the run directory, or why it failed.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from transformers import set_seed

from workbench.hardware import cpu_cores
from workbench.measurements import Measurement, ProbeFailure, write_outcome
from workbench.models.rendering import load_tokenizer
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.runs.events import StepEvent
from workbench.runs.store import Run, open_run
from workbench.settings import Settings
from workbench.training.assembly import assemble
from workbench.training.data import PreparedData, prepare_data
from workbench.training.failures import explain_failure
from workbench.training.reporter import Reporter

STEPS = 2
SAMPLING_SECONDS = 0.01


class MemoryWatch:
    """The growth of this process's memory, or of the graphics card's, while the block runs."""

    def __enter__(self) -> MemoryWatch:
        self._process = psutil.Process()
        self._before = self._peak = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        """The highest growth so far."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        return self._peak - self._before

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLING_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)


def probe(run: Run, settings: Settings) -> Measurement:
    """Measure speed and memory of a run in two steps.

    Raises:
        WorkbenchError: Something the person can act on.
    """
    torch.set_num_threads(cpu_cores())
    set_seed(run.config.seed)
    model_dir = ModelStore(settings).directory(find_model(run.config.model, allow_folder=True))
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
        loading_seconds = time.perf_counter() - started
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
    part = replace(data.parts[0], train=longest * STEPS, validation=[])
    return replace(data, parts=[part], general_check=[])


def main(run_dir: Path) -> int:
    """Return 0 when it was measured, 1 when it failed; either is written down."""
    try:
        write_outcome(run_dir, probe(open_run(run_dir), Settings.from_environment()))
    except BaseException as error:  # noqa: BLE001  # the process boundary
        traceback.print_exc()
        write_outcome(run_dir, ProbeFailure(*explain_failure(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
