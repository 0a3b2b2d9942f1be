"""Save what a run learned: ``model/`` is complete or absent, and holds what others load without the workbench."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from workbench.asking.loading import standard_attention
from workbench.presets import methods
from workbench.runs.store import Run


def save_model(
    model: Any, tokenizer: Any, run: Run, base_dir: Path, saving: dict[str, Any]
) -> None:
    """Write ``model/``: an adapter, or a model that needs no base.

    The folder is complete when it has its name.
    """
    partial_dir = run.directory / "model.part"
    if methods()[run.config.method].saves == "model":
        base_dtype = AutoConfig.from_pretrained(base_dir, trust_remote_code=False).dtype
        model = model.to(base_dtype or torch.float32)
        model.config.use_cache = True
        # How it was trained, not what it is: others load it with their own attention.
        model.set_attn_implementation(standard_attention(model))
    try:
        model.save_pretrained(partial_dir, **saving)
        tokenizer.save_pretrained(partial_dir)
    except BaseException:  # a full disk, say, which it would keep full
        shutil.rmtree(partial_dir, ignore_errors=True)
        raise
    run.forget_model()
    partial_dir.rename(run.model_dir)
    shutil.rmtree(run.directory / "initial", ignore_errors=True)
