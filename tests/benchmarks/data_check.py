"""How long does checking and tokenizing take? Prints a Markdown table; ``make bench-data``.

Each figure comes from a process of its own, as the median of several. Beside ours stands what people use
today: loading the same file with ``datasets``, which checks nothing, and applying the chat template and
the tokenizer row by row. The rows are those of ``--data``, made different by a number and repeated.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from workbench.config import STARTER_MODEL
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.settings import SAMPLES_DIR, Settings

# Each runs in a fresh Python with PATH and MODEL_DIR set, and prints what it did.
SNIPPETS = {
    "check": "from workbench.data.check import check_file; print(check_file(PATH, 'x').usable_rows)",
    "load with datasets, no check": (
        "import datasets; datasets.disable_progress_bars();"
        "print(len(datasets.load_dataset('json', data_files=str(PATH), split='train',"
        " cache_dir=str(PATH.parent / f'cache{time.time_ns()}'))))"
    ),
    "tokenize": (
        "from workbench.data.check import check_file; from workbench.models.rendering import *;"
        "rows = []; check_file(PATH, 'x', keep=lambda row, c: rows.append(c['messages']));"
        "tokenizer = load_tokenizer(MODEL_DIR); START();"
        "print(sum(len(e.input_ids) for e in tokenize_examples(tokenizer, rows)))"
    ),
    "tokenize row by row": (
        "from workbench.data.check import check_file; from workbench.models.rendering import *;"
        "rows = []; check_file(PATH, 'x', keep=lambda row, c: rows.append(c['messages']));"
        "tokenizer = load_tokenizer(MODEL_DIR); START();"
        "ask = dict(return_dict=False);"
        "print(sum(len(tokenizer.apply_chat_template(r, **ask)) for r in rows if "
        "tokenizer.apply_chat_template(r[:-1], add_generation_prompt=True, **ask)))"
    ),
    "tokens from the cache": (
        "from workbench.models.tokens import *;"
        "from workbench.data.check import check_file; from workbench.models.rendering import *;"
        "rows = []; check_file(PATH, 'x', keep=lambda row, c: rows.append(c));"
        "cache = PATH.with_name('tokens.npz'); tokenizer = load_tokenizer(MODEL_DIR);"
        "tokenize_dataset(tokenizer, rows, cache); START();"
        "print(len(tokenize_dataset(tokenizer, rows, cache)))"
    ),
}
FRAME = """
import os, resource, time
from pathlib import Path
os.environ["TOKENIZERS_PARALLELISM"] = "true"  # as in our child processes
PATH, MODEL_DIR = Path({path!r}), Path({model_dir!r})
began = [time.perf_counter()]
def START(): began[0] = time.perf_counter()
{code}
print(time.perf_counter() - began[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(code: str, path: Path, model_dir: Path, times: int) -> tuple[float, float]:
    """Return the median seconds and the largest peak memory in bytes."""
    seconds, memory = [], []
    for _ in range(times):
        script = FRAME.format(path=str(path), model_dir=str(model_dir), code=code)
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        took, peak_kb = done.stdout.splitlines()[-1].split()
        seconds.append(float(took))
        memory.append(int(peak_kb) * 1024)
    return statistics.median(seconds), max(memory)


def write_rows(source: list[dict[str, str]], path: Path, count: int, size_bytes: int) -> None:
    """Write Alpaca rows, a JSON list or JSON lines by the name, of about so many bytes in all."""
    per_row = size_bytes // count
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n" if path.suffix == ".json" else "")
        for number in range(count):
            row = {"input": "", **source[number % len(source)]}
            row["instruction"] += f" ({number})"
            fixed = len(json.dumps(row | {"output": ""}, ensure_ascii=False).encode())
            text = row["output"] + " and so on" * (per_row // 10)
            row["output"] = text[: max(9, per_row - fixed - 2)].strip()
            comma = ",\n" if path.suffix == ".json" and number < count - 1 else "\n"
            file.write(json.dumps(row, ensure_ascii=False) + comma)
        file.write("]\n" if path.suffix == ".json" else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=SAMPLES_DIR / "identity.json")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    store, source = ModelStore(Settings.from_environment()), find_model(STARTER_MODEL)
    model_dir = store.ensure(source, lambda progress: None)
    rows = json.loads(options.data.read_text(encoding="utf-8"))
    print(f"{time.strftime('%Y-%m-%d')}, {platform.processor() or platform.machine()}\n")
    print("| rows | what | seconds | peak memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        alpaca, huge = Path(directory) / "alpaca.json", Path(directory) / "huge.jsonl"
        write_rows(rows, alpaca, 52_000, 22_000_000)
        write_rows(rows, huge, 1_000_000, 500_000_000)
        cases = [(alpaca, name, options.times) for name in SNIPPETS]
        cases += [(huge, name, 1) for name in list(SNIPPETS)[:2]]
        for path, name, times in cases:
            seconds, memory = measure(SNIPPETS[name], path, model_dir, times)
            count = "52,000" if path == alpaca else "1,000,000"
            size = f"{path.stat().st_size / 1e6:.0f} MB {path.suffix[1:].upper()}"
            print(
                f"| {count} ({size}) | {name} | {seconds:.1f} | {memory / 1e6:,.0f} MB |",
                flush=True,
            )


if __name__ == "__main__":
    main()
