"""Reload runs as the playground does and write their logits: ``python -m tests.training.reload_models``.

Reads lines of ``run directory<TAB>base folder<TAB>output file`` from stdin; a process of its own, so that
nothing of the training is left.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import torch

from tests.inference.asking import write
from workbench.chat import OTHER_RUN, served_models
from workbench.inference.engine import Engine
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
    run = open_run(run_dir)
    engine = Engine(run, base_dir)
    found = {}
    own = {n: f for n, f in served_models(run).items() if not n.startswith(OTHER_RUN)}
    for name, folder in own.items():
        directory = folder or base_dir
        ids = torch.tensor([PROMPT])
        with torch.no_grad(), engine._models.use(name, directory, 1.0) as ready:
            logits = ready.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        found[name] = logits[0, -len(PROMPT) :].float()
        prompt = engine.chat_prompt([{"role": "user", "content": "Hello?"}], 3)  # it also talks
        assert write(engine, name, prompt)[1].tokens
    return found


if __name__ == "__main__":
    main()
