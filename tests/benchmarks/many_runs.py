"""How long does the table of runs take in a workspace with many? Prints a Markdown table.

    python -m tests.benchmarks.many_runs --runs 500 --steps 200

The first table reads every run directory, as after a start of the server (its files are in the disk's
cache); the second one comes a moment later. The parts are what the first and the second consist of.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.made_runs import make_run
from workbench.services import Services
from workbench.settings import Settings
from workbench.ui.runs_tab import list_runs
from workbench.ui.runs_views import find_entries, runs_table


def fill(services: Services, runs: int, steps: int) -> None:
    """Make one run and copy it; names and ids differ."""
    first = make_run(services.runs, "run 0", steps=steps, validation=(2.0, 1.5, 1.2, 1.1))
    for number in range(1, runs):
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(first.created - 3600 * number))
        shutil.copytree(first.directory, services.runs.root_dir / f"{stamp}-run-{number}")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long it took, and what came of it."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def measure(services: Services) -> list[tuple[str, float]]:
    """Time what a table is made of, in the order of the page."""
    listed, runs = seconds(services.runs.all)
    summed, _ = seconds(lambda: [services.supervisor.summary(run) for run in runs])
    whole, entries = seconds(lambda: list_runs(services))
    drawn, _ = seconds(lambda: runs_table(find_entries(entries, "finished smollm2")))
    return [
        ("services.runs.all()", listed),
        ("supervisor.summary of each", summed),
        ("both again", whole),
        ("search and rows", drawn),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(home_dir=Path(directory))
        fill(Services.for_workspace(settings), options.runs, options.steps)
        opened = Services.for_workspace(settings)
        first, second = measure(opened), measure(opened)
    print(f"{options.runs:,} runs of {options.steps:,} steps, in seconds\n")
    print("| what | first | second |\n|---|---|---|")
    for (name, before), (_, after) in zip(first, second, strict=True):
        print(f"| {name} | {before:.3f} | {after:.3f} |")


if __name__ == "__main__":
    main()
