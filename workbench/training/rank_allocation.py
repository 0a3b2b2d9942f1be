"""AdaLoRA (arXiv 2303.10512): PEFT moves ranks to where they matter most; here it is told when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.training.learning_state import STATE, LearningState

ORTHOGONALITY = 0.5  # PEFT's default weight of the regularizer
PATTERN = "rank_pattern"
NOTES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class RankAllocation(TrainerCallback, LearningState):
    """The pruning, which PEFT wants to be told of between the step and the zeroing of gradients.

    A checkpoint keeps what that rests on, so a resumed run prunes as it would have.
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

    def tensors(self, model: Any) -> dict[str, torch.Tensor]:
        """Return every weight, those of pruned ranks too, and PEFT's notes on what matters."""
        allocator, found = model.base_model.rankallocator, super().tensors(model)
        for note in NOTES:
            found |= {f"{note} {name}": value for name, value in getattr(allocator, note).items()}
        return found

    def notes(self, model: Any) -> dict[str, str]:
        """Return which ranks are pruned."""
        return {PATTERN: json.dumps(model.peft_config["default"].rank_pattern)}

    def load(self, model: Any, directory: Path) -> None:
        """Give the model the weights of a checkpoint, and PEFT its notes."""
        super().load(model, directory)
        with safe_open(directory / STATE, "pt") as file:
            model.peft_config["default"].rank_pattern = json.loads(file.metadata()[PATTERN])
            names = list(file.keys())
            for note in NOTES:
                found = {
                    name: file.get_tensor(name) for name in names if name.startswith(f"{note} ")
                }
                kept = {name.removeprefix(f"{note} "): value for name, value in found.items()}
                setattr(model.base_model.rankallocator, note, kept)


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
