"""How fast training is, beside what people use: ``make bench``.

The same model, token ids, labels, order and LoRA for every trainer, and the same weights to begin with, each in a
process of its own, one after the other in every round; figures are medians over rounds of what one round shows.
Trainers that need older libraries run with a Python of their own:

    python -m tests.benchmarks.training_speed --data rows.json --steps 4 --rounds 3 \
        --trainers ours plain-fp32 trl llama-factory --python trl=/path/to/python llama-factory=/path/to/python

A processor that only emulates bf16 compares them with ``--precision fp32``. On a graphics card, ``make bench-card``
measures models of 0.5 and 7 billion random weights, with LoRA and QLoRA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.bound import matmul_bound, read_shape
from tests.benchmarks.chosen_model import add_model_options, choose_model
from tests.benchmarks.circumstances import code_version, describe_computer, today
from tests.benchmarks.own_plan import plan_examples
from tests.benchmarks.starting_adapter import save_start
from workbench.compute import choose_compute
from workbench.config import TrainingConfig, build_config
from workbench.hardware import cpu_cores
from workbench.models.rendering import load_tokenizer, tokenize_example
from workbench.models.store import ModelStore
from workbench.plan import Plan
from workbench.processes import FREQUENT_RETURN
from workbench.settings import PROJECT_DIR, SAMPLES_DIR, Settings, visible_cards

TRAINERS_DIR = Path(__file__).parent / "trainers"
# Script and options of each: batch size, and whether it computes in bf16 by default (ours: as it measures).
TRAINERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("ours.py", {"batch": 16, "bf16": True}),
    "plain-fp32": ("plain.py", {"batch": 8, "bf16": False, "checkpointing": False}),
    "plain-bf16": ("plain.py", {"batch": 8, "bf16": True, "checkpointing": False}),
    "plain-bf16-checkpointing": ("plain.py", {"batch": 8, "bf16": True, "checkpointing": True}),
    "trl": ("trl_sft.py", {"batch": 8, "bf16": True}),
    "llama-factory": ("llama_factory.py", {"batch": 2, "bf16": True}),
    "unsloth": ("unsloth_sft.py", {"batch": 8, "bf16": True}),
}
EXAMPLES_PER_STEP = 16
RANK = 16
LONGEST_TOKENS = 1024
SCORED_ROWS = 24
SEED = 1  # not the one that any of the trainers would take by itself
NOTES = """\
Tokens are real ones, never padding. Computed: how many a trainer computes for each of them; padding makes it more, a
start that all rows share and that is computed once makes it less, and what checkpointing computes again does not count.
Share of bound: tokens/s, divided by those at which all of these tokens would be matrix multiplication and nothing else;
a token that a trainer need not compute counts as if it had been."""


@dataclass
class Figures:
    """What one trainer showed in one round; tokens are real ones, never padding.

    ``computed_share`` says how many tokens it computed for each of them.
    """

    tokens_per_second: float
    supervised_per_second: float
    computed_share: float
    peak_bytes: int
    losses: list[float]
    gradient_norms: list[float]
    score: float
    versions: dict[str, str]


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
    environment = os.environ | job.get("environment", {})
    environment |= {"PYTHONPATH": str(PROJECT_DIR), "HF_HUB_OFFLINE": "1"}
    environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible_cards()[:1])  # or some would use all
    command = [python, str(TRAINERS_DIR / script), str(folder / "job.json")]
    log = folder / "log.txt"
    with log.open("wb") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=file, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{log.read_text(errors='replace')[-3000:]}")
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def measure(
    name: str, pythons: dict[str, str], job: dict[str, Any], own: dict[str, Any], scored: Any
) -> Figures:
    """Train with one trainer; the first step warms up and does not count.

    Args:
        name: Of the trainer.
        pythons: The Python of each trainer that has its own.
        job: What every trainer is told.
        own: What only ours is told.
        scored: Examples to look at what it saved with.
    """
    script, options = TRAINERS[name]
    job = job | options | (own if name == "ours" else {})
    job["bf16"] = options["bf16"] and job["precision"] == "own"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        result = run(script, pythons.get(name, sys.executable), job, folder)
        scoring = job | {"examples": scored, "adapter": str(folder / "output")}
        (folder / "score").mkdir()
        score = run("score.py", sys.executable, scoring, folder / "score")["loss"]
    return figures_of(result, job["examples"][EXAMPLES_PER_STEP:], score)


def figures_of(result: dict[str, Any], timed: list[dict[str, list[int]]], score: float) -> Figures:
    """Return what a trainer's record says of all its steps but the first; ``timed`` are their examples."""
    seconds = sum(result["seconds"][1:])
    tokens = sum(len(example["input_ids"]) for example in timed)
    supervised = sum(label != -100 for example in timed for label in example["labels"][1:])
    return Figures(
        tokens_per_second=tokens / seconds,
        supervised_per_second=supervised / seconds,
        computed_share=sum(result["computed_tokens"][1:]) / tokens,
        peak_bytes=result["peak_bytes"],
        losses=result["losses"],
        gradient_norms=result["gradient_norms"],
        score=score,
        versions=result["versions"],
    )


def table(rounds: Sequence[dict[str, Figures]], bounds: Sequence[float]) -> str:
    """Return the Markdown table: medians over rounds; ratios are those within each round."""
    lines = [
        "| trainer | real tokens/s | supervised tokens/s | computed | peak memory | ours is "
        "| share of bound | loss, last step | loss of what it saved |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in rounds[0]:
        shown = [figures[name] for figures in rounds]
        speeds = [figures.tokens_per_second for figures in shown]
        cells = [
            name,
            f"{statistics.median(speeds):,.1f}",
            f"{statistics.median(f.supervised_per_second for f in shown):,.1f}",
            f"{statistics.median(f.computed_share for f in shown):.0%}",
            f"{statistics.median(f.peak_bytes for f in shown) / 1e9:.2f} GB",
            _times_as_fast(rounds, name),
            f"{median_ratio(speeds, bounds):.0%}",
            f"{statistics.median(f.losses[-1] for f in shown):.4f}",
            f"{statistics.median(f.score for f in shown):.4f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _times_as_fast(rounds: Sequence[dict[str, Figures]], name: str) -> str:
    if name == "ours" or "ours" not in rounds[0]:
        return ""
    ours = [figures["ours"].tokens_per_second for figures in rounds]
    theirs = [figures[name].tokens_per_second for figures in rounds]
    return f"{median_ratio(ours, theirs):.2f}x as fast"


def median_ratio(dividends: Sequence[float], divisors: Sequence[float]) -> float:
    """Return the median of the ratios within each round, which what slows a whole round down does not change."""
    return statistics.median(a / b for a, b in zip(dividends, divisors, strict=True))


def own_job(plan: Plan) -> dict[str, Any]:
    """Return what ours is told: what the plan chose, and how a run's process would be started."""
    return {
        "config": plan.config.model_dump(mode="json"),
        "environment": FREQUENT_RETURN if plan.hands_memory_back else {},
    }


def own_config(options: argparse.Namespace, model_id: str) -> TrainingConfig:
    """Return our settings for what every trainer does."""
    return build_config(
        {
            "model": model_id,
            "method": options.method,
            "lora_rank": RANK,
            "lora_alpha": 2 * RANK,
            "learning_rate": options.rate,
            "batch_size": EXAMPLES_PER_STEP,
            "max_steps": options.steps,
            "max_length": LONGEST_TOKENS,
            "validation_share": 0.0,
            "keep_general": False,
            "seed": SEED,
            "precision": "auto" if options.precision == "own" else "fp32",
        }
    )


def read_options() -> argparse.Namespace:
    """Read the command line."""
    has_card = torch.cuda.is_available()
    baseline = "plain-bf16" if has_card else "plain-fp32"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SAMPLES_DIR / "identity.json")
    add_model_options(parser)
    parser.add_argument("--method", choices=["lora", "qlora", "full"], default="lora")
    parser.add_argument("--precision", choices=["own", "fp32"], default="own")
    parser.add_argument("--steps", type=int, default=4, help="the first one does not count")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=["ours", baseline])
    parser.add_argument("--python", nargs="+", default=[], metavar="TRAINER=PATH")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("Take at least 2 steps: the first one warms up and does not count.")
    if options.precision == "fp32" and any("plain-bf16" in name for name in options.trainers):
        parser.error("With --precision fp32, take plain-fp32 in place of plain-bf16.")
    if "unsloth" in options.trainers and not has_card:
        parser.error("Unsloth needs a graphics card.")
    return options


def main() -> None:
    """Print the table; write everything as JSON where asked."""
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        _compare(options, Path(folder))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    settings = Settings.from_environment()
    torch.set_num_threads(cpu_cores())
    source = choose_model(options, settings, folder)
    models = ModelStore(settings)
    model_dir = models.directory(source)
    count = EXAMPLES_PER_STEP * options.steps
    examples = tokenize(options.data, load_tokenizer(model_dir), count + SCORED_ROWS)
    trained, scored = examples[:count], examples[count:]
    config = own_config(options, source.id)
    plan = plan_examples(config, trained, models.facts(source), settings.home_dir)
    start = ""
    if options.method != "full":
        start = str(save_start(model_dir, RANK, SEED, folder / "start.safetensors"))
    job = {
        "model": str(model_dir),
        "method": options.method,
        "precision": options.precision,
        "rank": RANK,
        "rate": options.rate,
        "steps": options.steps,
        "examples_per_step": EXAMPLES_PER_STEP,
        "examples": trained,
        "start": start,
        "threads": cpu_cores(),
        "seed": SEED,
    }
    pythons = dict(pair.split("=", 1) for pair in options.python)
    shape, compute = read_shape(model_dir), choose_compute(config.precision)
    rounds: list[dict[str, Figures]] = []
    bounds: list[float] = []
    for _ in range(options.rounds):
        bounds.append(matmul_bound(shape, compute, options.method, RANK, trained))
        rounds.append({})
        for name in options.trainers:
            rounds[-1][name] = measure(name, pythons, job, own_job(plan), scored)
            print(f"{name}: {rounds[-1][name].tokens_per_second:.1f} tokens/s", flush=True)
    about = describe(options, source.label, plan)
    print("\n" + "; ".join(f"{name}: {value}" for name, value in about.items()) + "\n")
    print(f"{table(rounds, bounds)}\n\n{NOTES}")
    if options.json:
        made = [{name: asdict(figures) for name, figures in r.items()} for r in rounds]
        record = {"about": about, "bounds": bounds, "rounds": made}
        options.json.write_text(json.dumps(record, indent=1))


def describe(options: argparse.Namespace, model: str, plan: Plan) -> dict[str, Any]:
    """Return when, where and what was measured, and what the plan chose for ours."""
    return {
        "date": today(),
        "machine": describe_computer(),
        "commit": code_version(),
        "model": f"{options.shape}, random weights" if options.shape else model,
        "method": options.method,
        "data": options.data.name,
        "precision": "each its own" if options.precision == "own" else "all fp32",
        "rounds": options.rounds,
        "steps timed": options.steps - 1,
        "ours computes in": plan.precision[0],
        "tokens at once": plan.config.micro_batch_tokens,
        "layers computed twice": plan.config.activation_checkpointing,
        "memory handed back": plan.hands_memory_back,
    }


if __name__ == "__main__":
    main()
