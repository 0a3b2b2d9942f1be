"""What a checkpoint in the usual form lacks, for the few methods where it lacks something.

A saved adapter is what the playground needs, which is not always all that learned: P-tuning saves the prompt
and not the network that makes it, AdaLoRA leaves out pruned ranks. Optimizers that project gradients keep
Python objects in their state, which the loader that runs no code refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from apollo_torch import APOLLOAdamW
from apollo_torch.random_projector import GradientProjector
from galore_torch import GaLoreAdamW
from galore_torch.galore_projector import GaLoreProjector
from safetensors.torch import load_file, save_file

STATE = "learning.safetensors"
WEIGHT = "weight "
PROJECTORS: dict[type, type] = {GaLoreAdamW: GaLoreProjector, APOLLOAdamW: GradientProjector}


class LearningState:
    """Keeps every weight that learns, by name, in a file of its own."""

    def save(self, model: Any, directory: Path) -> None:
        """Add to a checkpoint what it lacks."""
        tensors = {name: t.detach().contiguous().cpu() for name, t in self.tensors(model).items()}
        save_file(tensors, directory / STATE, metadata=self.notes(model))

    def load(self, model: Any, directory: Path) -> None:
        """Give a model the weights of a checkpoint."""
        tensors = load_file(directory / STATE)
        with torch.no_grad():
            for name, weight in _learning(model).items():
                weight.copy_(tensors[WEIGHT + name])

    def tensors(self, model: Any) -> dict[str, torch.Tensor]:
        """Return what is kept."""
        return {WEIGHT + name: weight for name, weight in _learning(model).items()}

    def notes(self, model: Any) -> dict[str, str]:
        """Return what is kept as text."""
        return {}


def keep_projectors(optimizer: torch.optim.Optimizer) -> None:
    """Let the projectors of GaLore and APOLLO be saved as plain values and come back as what they were."""
    kind = PROJECTORS.get(type(optimizer))
    if kind is None:
        return

    def flatten(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        plain = {
            key: {name: vars(v) if isinstance(v, kind) else v for name, v in state.items()}
            for key, state in state_dict["state"].items()
        }
        return {**state_dict, "state": plain}

    def rebuild(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        whole = {
            key: {
                name: _object(kind, value) if name == "projector" else value
                for name, value in state.items()
            }
            for key, state in state_dict["state"].items()
        }
        return {**state_dict, "state": whole}

    optimizer.register_state_dict_post_hook(flatten)
    optimizer.register_load_state_dict_pre_hook(rebuild)


def _object(kind: type, values: dict[str, Any]) -> Any:
    made: Any = object.__new__(kind)
    vars(made).update(values)
    return made


def _learning(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
