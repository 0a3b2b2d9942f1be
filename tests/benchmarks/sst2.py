"""From 2,000 film-review sentences to a report, with the command line alone: how long it takes, how often it is right.

``python -m tests.benchmarks.sst2 --train FILE --dev FILE`` trains the starter model on ``--rows`` rows of the one file, in a
workspace of its own (the model is taken from yours), asks base and tuned all rows of the other, and prints the
commands, the times and the figures. Both files are Alpaca JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from workbench.settings import Settings

SEED = 42  # which rows are taken: files are often sorted
SETTINGS = ["epochs=2", "keep_general=false", "validation_share=0", "evaluate_after=0"]
SHOWN = ("accuracy", "macro_f1", "no_label")


def main() -> int:
    """Train, evaluate, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000, help="rows to learn from")
    parser.add_argument("--limit", type=int, help="rows to ask (default: all)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="more settings")
    options = parser.parse_args()
    rows = json.loads(options.train.read_text(encoding="utf-8"))
    chosen = random.Random(SEED).sample(rows, min(options.rows, len(rows)))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        models = Settings.from_environment().models_dir
        if models.is_dir():
            shutil.copytree(models, home / models.name)
        path = Path(folder) / "train.json"
        path.write_text(json.dumps(chosen), encoding="utf-8")
        train = ["train", "--data", str(path), "--set", *SETTINGS, *options.set, "--json"]
        _, train_seconds = workbench(home, train)
        limit = ["--limit", str(options.limit)] if options.limit else []
        ask = ["evaluate", "latest", "--data", str(options.dev.resolve()), *limit, "--json"]
        found, ask_seconds = workbench(home, ask)
    show(found)
    print(
        f"learned from {len(chosen):,} rows, learning rate {found['settings']['learning_rate']:g}"
    )
    print(f"seconds: {train_seconds:.0f} to train, {ask_seconds:.0f} to ask")
    return 0


def workbench(home: Path, words: list[str]) -> tuple[dict[str, Any], float]:
    """Run a command in a workspace; return its document and its seconds, the start of Python included."""
    command = [str(Path(sys.executable).with_name("workbench")), *words]
    print(shlex.join(["workbench", *words]), flush=True)
    environment = os.environ | {"WORKBENCH_HOME": str(home)}
    started = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout), time.perf_counter() - started


def show(found: dict[str, Any]) -> None:
    """Print the figures with their intervals."""
    for name, figures in found["metrics"].items():
        for figure in SHOWN:
            low, high = found["intervals"][name][figure]
            print(
                f"{name} {figure}: {100 * figures[figure]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
            )
    print(f"rows asked: {found['data']['answered_rows']:,} of {found['data']['available_rows']:,}")


if __name__ == "__main__":
    sys.exit(main())
