"""How long an evaluation takes beside one question after the other with plain ``generate``.

``python -m tests.benchmarks.evaluation_speed RUN --data FILE`` evaluates base and tuned model of a finished LoRA run on
rows of a file, and then asks the same models a sample of the same rows one by one, with the adapter as peft loads it.
Both read the expected answers for the loss, too, which the evaluation reports. Seconds a row, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from workbench.compute import choose_compute
from workbench.models.rendering import load_tokenizer, prompt_ids, stop_ids, tokenize_example
from workbench.models.sources import source_of
from workbench.models.store import ModelStore
from workbench.runs.store import RunStore
from workbench.settings import Settings


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--data", type=Path, required=True, help="Alpaca JSON")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--one-by-one", type=int, default=50, help="rows of the sample")
    options = parser.parse_args()
    rows = json.loads(options.data.read_text(encoding="utf-8"))[: options.rows]
    random.shuffle(rows)  # another file each time: what was answered once is not asked again
    ours, answer_tokens = evaluate(options.run, rows)
    one_by_one = ask_one_by_one(options.run, rows[: options.one_by_one], answer_tokens)
    print(f"rows: {len(rows)}, base and tuned, at most {answer_tokens} new tokens")
    print(f"workbench evaluate: {ours:.0f} s in all, {ours / len(rows):.3f} s a row")
    print(f"one by one: {one_by_one / options.one_by_one:.3f} s a row")
    print(f"ratio: {one_by_one / options.one_by_one / (ours / len(rows)):.1f}")
    return 0


def evaluate(run: str, rows: list[dict[str, str]]) -> tuple[float, int]:
    """Return the seconds of the whole command, its start included, and the longest answer's tokens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        workbench = Path(sys.executable).with_name("workbench")
        command = [workbench, "evaluate", run, "--data", path, "--json"]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        seconds = time.perf_counter() - started
    return seconds, json.loads(done.stdout)["facts"]["answer_tokens"]


def ask_one_by_one(run_id: str, rows: list[dict[str, str]], answer_tokens: int) -> float:
    """Return the seconds that both models take for the rows, loading not counted."""
    settings = Settings.from_environment()
    run = RunStore(settings).get(run_id)
    compute = choose_compute(run.config.precision)
    model_dir = ModelStore(settings).directory(source_of(run.config))
    tokenizer = load_tokenizer(model_dir)
    model: Any = AutoModelForCausalLM.from_pretrained(model_dir, dtype=compute.dtype).eval()
    seconds = _ask(model, tokenizer, rows, answer_tokens)
    return seconds + _ask(
        PeftModel.from_pretrained(model, run.model_dir).eval(), tokenizer, rows, answer_tokens
    )


@torch.no_grad()
def _ask(model: Any, tokenizer: Any, rows: list[dict[str, str]], answer_tokens: int) -> float:
    started = time.perf_counter()
    for row in rows:
        asked = "\n\n".join(filter(None, [row["instruction"], row.get("input", "")]))
        messages = [{"role": "user", "content": asked}]
        ids = torch.tensor([prompt_ids(tokenizer, messages)])
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=answer_tokens,
            do_sample=False,
            eos_token_id=stop_ids(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
        )
        example = tokenize_example(
            tokenizer, [*messages, {"role": "assistant", "content": row["output"]}]
        )
        model(
            input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])
        ).loss.item()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
