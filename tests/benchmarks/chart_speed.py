"""What does drawing a long run cost? Prints a Markdown table; run with ``python -m``.

For a run of ``--steps`` steps: server time for the first look, for a tick that brings ten new steps, and the
size of what the browser gets. Each figure is the median of several.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workbench.runs.columns import Columns, steps_csv
from workbench.runs.events import EvaluationEvent, StepEvent
from workbench.runs.reading import read_loss
from workbench.ui.charts import METRICS, ChartView, comparison_figure, run_figure

ROUNDS = 9
NEW_STEPS = 10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100_000)
    count = parser.parse_args().steps
    steps, checks = long_run(count)
    known = Columns.of(steps[:-NEW_STEPS])
    columns = known.extended(steps)
    runs = [(f"run {number}", columns, checks) for number in range(4)]
    measured: dict[str, Callable[[], Any]] = {
        "columns, first look": lambda: Columns.of(steps),
        f"columns, {NEW_STEPS} new steps": lambda: known.extended(steps),
        "loss in words": lambda: read_loss(steps, checks, count),
        "table (CSV)": lambda: steps_csv(columns, checks),
        "comparison of 4 runs": lambda: comparison_figure(runs).to_json(),
    }
    for name in METRICS:
        view = ChartView(x="time", metric=name)
        measured[f"chart with {name}"] = lambda view=view: run_figure(
            columns, checks, view
        ).to_json()
    print(f"{count:,} steps, {len(checks):,} checks\n\n| what | ms | kB |\n|---|---:|---:|")
    for name, act in measured.items():
        made = act()
        size = f"{len(made) / 1000:.0f}" if isinstance(made, str) else ""
        print(f"| {name} | {median_ms(act):.1f} | {size} |")


def long_run(count: int) -> tuple[list[StepEvent], list[EvaluationEvent]]:
    """Return the steps and checks of a noisy run."""
    random = np.random.default_rng(0)
    losses = (1 + 1.5 * np.exp(-np.arange(count) / (count / 5))) * np.exp(
        random.normal(0, 0.2, count)
    )
    steps = [
        StepEvent(
            step=number, epoch=number / 1000, loss=None if number % 9973 == 0 else float(loss),
            learning_rate=1e-4 * (1 - number / count), grad_norm=float(loss) * 2, tokens=number % 700 + 300,
            seconds=0.25, memory_bytes=3 * 10**9, token_accuracy=float(np.exp(-loss)),
            time=1.7e9 + number / 4,
        )
        for number, loss in enumerate(losses, 1)
    ]  # fmt: skip
    checks = [
        EvaluationEvent(step=step, loss=1.2, seconds=1.0, token_accuracy=0.6)
        for step in range(0, count + 1, 100)
    ]
    return steps, checks


def median_ms(act: Callable[[], Any]) -> float:
    """Return how long it takes in milliseconds."""
    times: Sequence[float] = [_seconds(act) for _ in range(ROUNDS)]
    return 1000 * statistics.median(times)


def _seconds(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
