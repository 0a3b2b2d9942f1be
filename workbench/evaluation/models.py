"""Load the base model, and then what a run learned, on the same copy of the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import AutoConfig

from workbench.asking.loading import limit_of, load_to_ask, scale_adapter
from workbench.compute import Compute
from workbench.evaluation.request import TUNED
from workbench.presets import MethodPreset


class Models:
    """The models of one evaluation, one at a time: ask for ``base`` first.

    The base has no adapter near it when it is asked, so nothing can be left switched on. The adapter is then
    laid on it; a run that saved a whole model has that loaded instead, when the base is gone from memory.

    Args:
        base_dir: Folder of the model the run started from.
        method: The run's.
        compute: Device and precision.
    """

    def __init__(self, base_dir: Path, method: MethodPreset, compute: Compute) -> None:
        self._base_dir = base_dir
        self._method = method
        self._compute = compute
        self._base: Any = None

    def base(self) -> Any:
        """Return the base model, as the method holds it in memory."""
        if self._base is None:
            self._base = self._load(self._base_dir)
        return self._base

    def tuned(self, directory: Path, strength: float) -> Any:
        """Return the model with what the run learned; the base is not to be used any more.

        Args:
            directory: The run's ``model/``, or a checkpoint.
            strength: How much of an adapter is on; 1 is as trained.
        """
        if self._method.saves == "adapter":
            tuned = PeftModel.from_pretrained(self.base(), directory, adapter_name=TUNED).eval()
            scale_adapter(tuned, TUNED, strength)
            return tuned
        self._base = None
        return self._load(directory)

    def _load(self, directory: Path) -> Any:
        quantization = self._compute.quantization(self._method.base)
        return load_to_ask(directory, self._compute, self._compute.dtype, quantization)


def longest_tokens(model_dir: Path) -> int:
    """Return how many tokens a model can read, question and answer together."""
    return limit_of(AutoConfig.from_pretrained(model_dir, trust_remote_code=False))
