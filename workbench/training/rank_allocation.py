"""AdaLoRA (arXiv 2303.10512): PEFT moves ranks to where they matter most; here it is told when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

ORTHOGONALITY = 0.5  # PEFT's default weight of the regularizer
STATE = "rank_allocation.safetensors"
NOTES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class RankAllocation(TrainerCallback):
    """The pruning, which PEFT wants to be told of between the step and the zeroing of gradients.

    A saved adapter has lost the ranks that are pruned, and PEFT's notes on what matters are not in it. So a
    checkpoint gets a file of its own with both, and a resumed run prunes as it would have.
    """

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **kwargs: Any,
    ) -> None:
        """Move ranks to where they matter most."""
        model.base_model.update_and_allocate(state.global_step)

    def save(self, model: Any, directory: Path) -> None:
        """Add what a checkpoint lacks."""
        allocator = model.base_model.rankallocator
        tensors = {f"weight {name}": weight for name, weight in _learning(model).items()}
        for note in NOTES:
            tensors |= {f"{note} {name}": value for name, value in getattr(allocator, note).items()}
        pattern = json.dumps(model.peft_config["default"].rank_pattern)
        kept = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
        save_file(kept, directory / STATE, metadata={"rank_pattern": pattern})

    def load(self, model: Any, directory: Path) -> None:
        """Give the model the weights of a checkpoint, and PEFT its notes."""
        from safetensors import safe_open

        tensors = load_file(directory / STATE)
        with safe_open(directory / STATE, "pt") as file:
            model.peft_config["default"].rank_pattern = json.loads(file.metadata()["rank_pattern"])
        allocator = model.base_model.rankallocator
        with torch.no_grad():
            for name, weight in _learning(model).items():
                weight.copy_(tensors[f"weight {name}"])
        for note in NOTES:
            start = f"{note} "
            setattr(
                allocator,
                note,
                {
                    name.removeprefix(start): t
                    for name, t in tensors.items()
                    if name.startswith(start)
                },
            )


def orthogonality(model: Any) -> torch.Tensor:
    """Return AdaLoRA's regularizer, a float32 scalar: how far its factors are from orthogonal.

    PEFT adds it only to a loss that the model itself computes (arXiv 2303.10512, equation 4).
    """
    factors = [
        weight if "lora_A" in name else weight.T
        for name, weight in model.named_parameters()
        if "lora_A" in name or "lora_B" in name
    ]
    distances = [
        torch.linalg.matrix_norm(f @ f.T - torch.eye(len(f), device=f.device)) for f in factors
    ]
    return ORTHOGONALITY * torch.stack(distances).mean()


def _learning(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
