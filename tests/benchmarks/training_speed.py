"""How fast training is, beside what people use: ``make bench``.

The same model, token ids, labels, order and LoRA for every trainer, each in a process of its own, one after
the other in every round; figures are medians over rounds of what one round shows. Trainers that need older
libraries run with a Python of their own:

    python -m tests.benchmarks.training_speed --data rows.json --steps 4 \
        --trainers ours plain-fp32 trl llama-factory --python trl=/path/to/python llama-factory=/path/to/python

A processor that only emulates bf16 compares them with ``--precision fp32``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.compute import choose_compute
from workbench.config import STARTER_MODEL
from workbench.hardware import cpu_cores
from workbench.models.rendering import load_tokenizer, tokenize_example
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.settings import PROJECT_DIR, SAMPLES_DIR, Settings

TRAINERS_DIR = Path(__file__).parent / "trainers"
# Script and options of each: batch size, and whether it computes in bf16 by default (ours: as it measures).
TRAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("ours.py", {"batch": 16, "bf16": True}),
    "plain-fp32": ("plain.py", {"batch": 8, "bf16": False}),
    "plain-bf16": ("plain.py", {"batch": 8, "bf16": True}),
    "trl": ("trl_sft.py", {"batch": 8, "bf16": True}),
    "llama-factory": ("llama_factory.py", {"batch": 2, "bf16": True}),
}
EXAMPLES_PER_STEP = 16
RANK = 16
LONGEST_TOKENS = 1024
SCORED_ROWS = 24
MATMUL_SECONDS = 1.0


@dataclass
class Figures:
    """What one trainer showed in one round."""

    tokens_per_second: float
    supervised_per_second: float
    peak_bytes: int
    losses: list[float]
    gradient_norms: list[float]
    score: float


def tokenize(path: Path, tokenizer: Any, count: int) -> list[dict[str, list[int]]]:
    """Return ids and labels of the first rows of an Alpaca file that are not too long."""
    made: list[dict[str, list[int]]] = []
    for row in json.loads(path.read_text(encoding="utf-8")):
        question = f"{row['instruction']}\n\n{row.get('input', '')}".strip()
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": row["output"]},
        ]
        example = tokenize_example(tokenizer, messages)
        if len(example.input_ids) <= LONGEST_TOKENS:
            made.append({"input_ids": example.input_ids, "labels": example.labels})
        if len(made) == count:
            return made
    raise SystemExit(f"{path} has only {len(made)} rows that fit; {count} are needed.")


def run(script: str, python: str, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run one script of ``trainers/`` and return what it wrote."""
    job = job | {"result": str(folder / "result.json"), "output": str(folder / "output")}
    (folder / "job.json").write_text(json.dumps(job))
    environment = os.environ | {"PYTHONPATH": str(PROJECT_DIR), "HF_HUB_OFFLINE": "1"}
    command = [python, str(TRAINERS_DIR / script), str(folder / "job.json")]
    log = folder / "log.txt"
    with log.open("wb") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{log.read_text(errors='replace')[-3000:]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def measure(name: str, pythons: dict[str, str], job: dict[str, Any], scored: Any) -> Figures:
    """Train with one trainer; the first step warms up and does not count."""
    script, options = TRAINERS[name]
    options = options | {"bf16": options["bf16"] and job["precision"] == "own"}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        result = run(script, pythons.get(name, sys.executable), job | options, folder)
        scoring = job | {"examples": scored, "adapter": str(folder / "output")}
        (folder / "score").mkdir()
        score = run("score.py", sys.executable, scoring, folder / "score")["loss"]
    timed = job["examples"][EXAMPLES_PER_STEP:]
    seconds = sum(result["seconds"][1:])
    supervised = sum(label != -100 for example in timed for label in example["labels"][1:])
    return Figures(
        tokens_per_second=sum(len(example["input_ids"]) for example in timed) / seconds,
        supervised_per_second=supervised / seconds,
        peak_bytes=result["peak_bytes"],
        losses=result["losses"],
        gradient_norms=result["gradient_norms"],
        score=score,
    )


def matmul_bound(model_dir: Path, job: dict[str, Any]) -> float:
    """Return the tokens per second at which the step would be matrix multiplication and nothing else.

    Operations of a token: of every frozen linear weight 4, of every trained one 6 (forward, and backward by
    input and by weight); the head at supervised positions only. The rate is measured at the layers' shapes.
    """
    from workbench.models.facts import Shape

    shape = Shape.of(json.loads((model_dir / "config.json").read_text()))
    assert shape is not None
    compute = choose_compute("auto" if job["precision"] == "own" else "fp32")
    sizes = [*shape.linear_sizes] * shape.layers
    lora = sum((inputs + outputs) * RANK for inputs, outputs in sizes)
    linear = sum(inputs * outputs for inputs, outputs in sizes)
    tokens = sum(len(example["input_ids"]) for example in job["examples"])
    supervised = sum(label != -100 for e in job["examples"] for label in e["labels"][1:])
    head = shape.vocabulary * shape.width * supervised / tokens
    full = job["method"] == "full"
    operations = 6 * (linear + head) if full else 4 * (linear + head) + 6 * lora
    rows = 2048
    factors = [
        (
            torch.randn(rows, inputs, dtype=compute.dtype, device=compute.device),
            torch.randn(inputs, outputs, dtype=compute.dtype, device=compute.device),
        )
        for inputs, outputs in shape.linear_sizes
    ]
    operations_done, seconds = 0.0, 0.0
    while seconds < MATMUL_SECONDS:
        started = time.perf_counter()
        for left, right in factors:
            left @ right
        if compute.device == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - started
        operations_done += sum(
            2 * rows * inputs * outputs for inputs, outputs in shape.linear_sizes
        )
    return operations_done / seconds / operations


def table(rounds: list[dict[str, Figures]], bounds: list[float]) -> str:
    """Return the Markdown table: medians, and our speed as medians of ratios within a round."""
    lines = [
        "| trainer | real tokens/s | supervised tokens/s | peak memory | ours is | share of bound "
        "| loss, last step | loss of what it saved |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in rounds[0]:
        shown = [figures[name] for figures in rounds]

        def middle(values: list[float]) -> float:
            return statistics.median(values)

        ours = middle(
            [r["ours"].tokens_per_second / r[name].tokens_per_second for r in rounds if "ours" in r]
            or [float("nan")]
        )
        share = middle(
            [f.tokens_per_second / bound for f, bound in zip(shown, bounds, strict=True)]
        )
        lines.append(
            f"| {name} | {middle([f.tokens_per_second for f in shown]):,.1f} "
            f"| {middle([f.supervised_per_second for f in shown]):,.1f} "
            f"| {middle([f.peak_bytes for f in shown]) / 1e9:.2f} GB | {ours:.2f}x as fast "
            f"| {share:.0%} | {shown[-1].losses[-1]:.4f} | {shown[-1].score:.4f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table; write everything as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SAMPLES_DIR / "identity.json")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--precision", choices=["own", "fp32"], default="own")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=["ours", "plain-fp32"])
    parser.add_argument("--python", nargs="+", default=[], metavar="TRAINER=PATH")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args()
    if options.precision == "fp32" and "plain-bf16" in options.trainers:
        parser.error("With --precision fp32, take plain-fp32 in place of plain-bf16.")
    settings = Settings.from_environment()
    model_dir = ModelStore(settings).ensure(find_model(STARTER_MODEL), lambda progress: None)
    count = EXAMPLES_PER_STEP * options.steps
    examples = tokenize(options.data, load_tokenizer(model_dir), count + SCORED_ROWS)
    job = {
        "model": str(model_dir),
        "method": options.method,
        "precision": options.precision,
        "rank": RANK,
        "rate": options.rate,
        "steps": options.steps,
        "examples_per_step": EXAMPLES_PER_STEP,
        "examples": examples[:count],
        "threads": cpu_cores(),
        "seed": 1,
    }
    torch.set_num_threads(cpu_cores())
    pythons = dict(pair.split("=", 1) for pair in options.python)
    rounds: list[dict[str, Figures]] = []
    bounds: list[float] = []
    for _ in range(options.rounds):
        bounds.append(matmul_bound(model_dir, job))
        rounds.append({})
        for name in options.trainers:
            rounds[-1][name] = measure(name, pythons, job, examples[count:])
            print(f"{name}: {rounds[-1][name].tokens_per_second:.1f} tokens/s", flush=True)
    precision = "each in its own precision" if options.precision == "own" else "all in fp32"
    machine = f"{platform.processor() or platform.machine()}, {cpu_cores()} cores"
    print(f"\n{options.method}, {precision}, {machine}\n")
    print(table(rounds, bounds))
    if options.json:
        made = [{name: vars(figures) for name, figures in r.items()} for r in rounds]
        options.json.write_text(json.dumps({"bounds": bounds, "rounds": made}, indent=1))


if __name__ == "__main__":
    main()
