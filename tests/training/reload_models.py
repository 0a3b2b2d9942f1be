"""Reload runs as the playground does and write their logits: ``python -m tests.training.reload_models``.

Reads lines of ``run directory<TAB>base folder<TAB>output file`` from stdin; a process of its own, so that
nothing of the training is left.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch

from workbench.inference.engine import Engine, Sampling
from workbench.runs.store import open_run

PROMPT = list(range(2, 34))


def main() -> None:
    for line in sys.stdin:
        run_dir, base_dir, output = map(Path, line.rstrip("\n").split("\t"))
        try:
            torch.save(_logits(run_dir, base_dir), output)
        except Exception:  # noqa: BLE001  # told to the test
            output.with_suffix(".error").write_text(traceback.format_exc())


def _logits(run_dir: Path, base_dir: Path) -> dict[str, torch.Tensor]:
    engine = Engine(open_run(run_dir), base_dir)
    found = {}
    for name in ("tuned", "base"):
        model, switch = engine._model(name)
        ids = torch.tensor([PROMPT])
        with torch.no_grad(), switch:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        found[name] = logits[0, -len(PROMPT) :].float()
        question = [{"role": "user", "content": "Hello?"}]
        "".join(engine.stream(name, question, Sampling(max_tokens=3)))  # it also talks
    return found


if __name__ == "__main__":
    main()
