"""How right the plan is: memory and time, planned and measured: ``make bench-plan``.

For each method and length: the peak that is planned, against the growth of the process in two real steps
on the longest examples; with ``--runs``, also the time that is planned after that test drive against the
time a short run takes. On a machine without a graphics card it measures the starter model; freed memory is
handed back, as where memory is short.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from workbench.config import STARTER_MODEL, build_config
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.plan import Plan
from workbench.probing import test_drive
from workbench.progress import follow
from workbench.runs.store import RunStore
from workbench.services import DataChoice, Services
from workbench.settings import Settings
from workbench.words import describe_bytes

WORDS = [
    "the",
    "model",
    "reads",
    "a",
    "long",
    "text",
    "about",
    "rivers",
    "hills",
    "and",
    "towns",
    "near",
    "the",
    "sea",
    "where",
    "people",
    "work",
]
ROWS = 24
RUN_STEPS = 4


def rows(length_tokens: int) -> list[dict[str, str]]:
    """Return examples of about so many tokens, two thirds of them answers; one word is one token."""

    def text(first: int, count: int) -> str:
        return " ".join(WORDS[(first + word) % len(WORDS)] for word in range(count))

    asked, answered = round(0.3 * length_tokens), round(0.6 * length_tokens)
    return [
        {"instruction": text(row, asked), "output": f"{text(3 * row, answered)} {row}."}
        for row in range(ROWS)
    ]


def measure(
    services: Services, method: str, data: DataChoice, *, runs: bool, general: bool
) -> list[str]:
    """Return the cells of one row of the table."""
    config = build_config(
        {"method": method, "max_steps": RUN_STEPS, "validation_share": 0.0, "keep_general": general}
    )
    plan = services.plan(config, data)
    assert plan.memory is not None
    probes = RunStore(services.settings, services.settings.home_dir / "probes")
    run = services.create_run(plan, data, "bench", probes, hands_memory_back=True)
    measured = test_drive(run, services.settings)
    services.measurements.keep(plan.config, plan.work.hardest_tokens, measured)
    ratio = plan.memory.peak_bytes / measured.peak_memory_bytes
    cells = [
        describe_bytes(plan.memory.peak_bytes),
        describe_bytes(measured.peak_memory_bytes),
        f"{ratio:.2f}",
    ]
    return cells + (_time(services, services.plan(config, data), data) if runs else [])


def _time(services: Services, plan: Plan, data: DataChoice) -> list[str]:
    assert plan.seconds is not None
    started = time.perf_counter()
    run = services.create_run(plan, data, "bench", hands_memory_back=True)
    services.supervisor.start(run)
    follow(services.supervisor, run, quiet=True)
    took = time.perf_counter() - started
    return [f"{plan.seconds:.0f} s", f"{took:.0f} s", f"{plan.seconds / took:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["lora", "qlora", "full"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--runs", action="store_true", help="also time short runs")
    parser.add_argument("--general", action="store_true", help="also keep general skills")
    options = parser.parse_args()
    settings = Settings.from_environment()
    source = find_model(STARTER_MODEL)
    ModelStore(settings).ensure(source, lambda progress: None)
    print("| method | tokens a row | planned | measured | ratio | planned | took | ratio |")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(settings.models_dir)
        services = Services.for_workspace(Settings(home_dir=home))
        for length in options.lengths:
            path = home / f"rows-{length}.json"
            path.write_text(json.dumps(rows(length)), encoding="utf-8")
            info = services.datasets.add(path, path.name)
            services.count_tokens(info, source)
            services.tokenizer.close()
            data = services.choose_data({info.id: 1.0})
            for method in options.methods:
                cells = measure(services, method, data, runs=options.runs, general=options.general)
                print(f"| {method} | {length} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
