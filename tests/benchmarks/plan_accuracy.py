"""How right the plan is: memory and time, planned and measured: ``make bench-plan``.

For each method and length: the peak that is planned, against what two real steps on the longest examples took;
with ``--runs``, also the time that is planned after that test drive against the time a short run takes. On a
processor, what they took is the growth of the process, and freed memory is handed back, as where memory is short;
on a graphics card it is the most that was allocated there (``torch.cuda.max_memory_allocated``).

The starter model, or another one with ``--model``, or ``--shape 7B`` for random weights of that shape.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from tests.benchmarks.chosen_model import add_model_options, choose_model
from tests.benchmarks.circumstances import code_version, describe_computer, today
from workbench.config import TrainingConfig, build_config
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
    services: Services, config: TrainingConfig, data: DataChoice, *, runs: bool
) -> list[str]:
    """Return the cells of one row of the table."""
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
    if not runs:
        return cells
    return cells + _time(services, services.plan(config, data), data)


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
    add_model_options(parser)
    parser.add_argument("--methods", nargs="+", default=["lora", "qlora", "full"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 256, 512])
    parser.add_argument("--runs", action="store_true", help="also time short runs")
    parser.add_argument("--general", action="store_true", help="also keep general skills")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _print_table(options, Path(folder))


def _print_table(options: argparse.Namespace, home: Path) -> None:
    settings = Settings.from_environment()
    source = choose_model(options, settings, home / "made")
    (home / "models").symlink_to(settings.models_dir)
    services = Services.for_workspace(Settings(home_dir=home))
    print(f"{source.label}; {today()}; {describe_computer()}; commit {code_version()}\n")
    head = ["method", "tokens a row", "planned", "measured", "ratio"]
    head += ["planned", "took", "ratio"] if options.runs else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    chosen = {
        "model": source.id,
        "max_steps": RUN_STEPS,
        "validation_share": 0.0,
        "keep_general": options.general,
        **dict(pair.split("=", 1) for pair in options.set),
    }
    for length in options.lengths:
        path = home / f"rows-{length}.json"
        path.write_text(json.dumps(rows(length)), encoding="utf-8")
        info = services.datasets.add(path, path.name)
        services.count_tokens(info, source)
        services.tokenizer.close()
        data = services.choose_data({info.id: 1.0})
        for method in options.methods:
            config = build_config(chosen | {"method": method})
            cells = measure(services, config, data, runs=options.runs)
            print(f"| {method} | {length} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
