"""The models of one run in memory: the base, what was tuned, and checkpoints when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig

from workbench.asking.loading import can_scale, load_to_ask, scale_adapter
from workbench.asking.products import Way, as_rows, fastest_way
from workbench.asking.quick import Factors, QuickModel, quick_model
from workbench.chat import learned_model, served_models
from workbench.compute import Compute
from workbench.errors import WorkbenchError
from workbench.presets import methods
from workbench.runs.store import Run

BASE, TUNED = "base", "tuned"
MOST_ADAPTERS = 6  # an adapter is some percent of the base
MOST_MODELS = 3  # whole models: the base, and two to compare
# Of weights on disk: these may take twice the memory where they answer faster so.
SMALL_BYTES = 1_200_000_000


@dataclass(frozen=True)
class Ready:
    """A model that answers.

    Attributes:
        model: As transformers has it, with its adapter on.
        quick: The short way through it after the first token; ``None`` where there is none.
        factors: What its adapter adds there.
    """

    model: Any
    quick: QuickModel | None = None
    factors: Sequence[Factors] = ()

    @classmethod
    def of(cls, model: Any, quick: QuickModel | None, adapter: str | None = None) -> Ready:
        """Find the short way, for this adapter."""
        factors = quick.prepare(adapter) if quick else None
        return cls(model) if factors is None else cls(model, quick, factors)


class LoadedAdapters:
    """Adapters of one run on one copy of the base; which one is on changes with every answer.

    Args:
        base: The model that was tuned.
        model_dir: The adapter that is loaded first.
        compute: Device and precision.
        way: How to multiply with the base's weights.
        name: What that one is called.
    """

    def __init__(
        self, base: Any, model_dir: Path, compute: Compute, way: Way, name: str = TUNED
    ) -> None:
        self._model = PeftModel.from_pretrained(base, model_dir, adapter_name=name).eval()
        with self._model.disable_adapter(), compute.autocast():
            self._quick = quick_model(self._model, way)
        self._names = [name]  # the one used longest ago comes first
        self.can_scale = can_scale(self._model)

    def has_room_for(self, name: str) -> bool:
        """Say whether a model can be made ready while others answer: always, for an adapter is small."""
        return True

    @contextmanager
    def use(self, name: str, directory: Path, strength: float) -> Iterator[Ready]:
        """Make ready the model in which exactly this adapter is on, or none; afterwards it is as it was.

        Args:
            name: ``base`` for none.
            directory: Where the adapter lies; read when it is first used.
            strength: 1 is as trained; 0 is the base.
        """
        if name == BASE or strength == 0:
            with self._model.disable_adapter():
                yield Ready.of(self._model, self._quick)
            return
        self._load(name, directory)
        self._model.set_adapter(name)  # adaption prompts know no inference mode
        before = scale_adapter(self._model, name, strength)
        try:
            yield Ready.of(self._model, self._quick, name)
        finally:
            for layer, scaling in before:
                layer.scaling[name] = scaling

    def _load(self, name: str, directory: Path) -> None:
        if name in self._names:
            self._names.remove(name)
        else:
            if len(self._names) == MOST_ADAPTERS:
                self._model.delete_adapter(self._names.pop(0))
            with _base_as_it_is(self._model):
                self._model.load_adapter(directory, adapter_name=name)
            self._model.eval()
        self._names.append(name)


class LoadedModels:
    """Whole models of one run, for methods that save one; each is loaded when it is first asked.

    Args:
        load: Reads the model in a folder.
        compute: Device and precision.
        way: How to multiply with their weights.
    """

    can_scale = False

    def __init__(self, load: Any, compute: Compute, way: Way) -> None:
        self._load = load
        self._compute, self._way = compute, way
        # The one used longest ago comes first.
        self._models: dict[str, tuple[Any, QuickModel | None]] = {}

    def has_room_for(self, name: str) -> bool:
        """Say whether a model can be made ready without giving up another one."""
        return name in self._models or len(self._models) < MOST_MODELS

    @contextmanager
    def use(self, name: str, directory: Path, strength: float) -> Iterator[Ready]:
        """Make the model ready; another one is given up when there are too many."""
        known = self._models.pop(name, None)
        if known is None:
            while len(self._models) >= MOST_MODELS:
                self._models.pop(next(iter(self._models)))
            model = self._load(directory)
            with self._compute.autocast():
                known = model, quick_model(model, self._way)
        self._models[name] = known
        yield Ready.of(*known)


def load_models(
    run: Run, base_dir: Path, compute: Compute
) -> tuple[LoadedAdapters | LoadedModels, Any]:
    """Load what answers first.

    Args:
        run: A run with a saved model or a checkpoint.
        base_dir: Folder of the model it started from.
        compute: Device and precision.

    Returns:
        The models, and the configuration of the base.
    """
    method = methods()[run.config.method]
    name = learned_model(run)
    model_dir = served_models(run).get(name) or run.model_dir
    quantization = compute.quantization(method.base)
    way = Way(compute.dtype, as_rows) if quantization else _way(base_dir, compute)

    def load(directory: Path) -> Any:
        return load_to_ask(directory, compute, way.dtype, quantization)

    if method.saves == "adapter":
        base = load(base_dir)
        return LoadedAdapters(base, model_dir, compute, way, name), base.config
    models = LoadedModels(load, compute, way)
    with models.use(name, model_dir, 1.0) as tuned:
        return models, tuned.model.config


def check_strength(models: LoadedAdapters | LoadedModels, name: str, strength: float) -> None:
    """Refuse a strength where there is nothing to scale.

    Raises:
        WorkbenchError: Says why.
    """
    if strength == 1:
        return
    if name == BASE:
        raise WorkbenchError(
            "The model before training has no adapter, so it has no strength.",
            "Leave strength at 1.",
        )
    if not models.can_scale:
        raise WorkbenchError(
            "The strength of this method cannot be changed; it works for LoRA and its plain relatives.",
            "Leave strength at 1.",
        )


def _way(base_dir: Path, compute: Compute) -> Way:
    """Return how a model's weights are kept and multiplied with."""
    config = AutoConfig.from_pretrained(base_dir, trust_remote_code=False).get_text_config()
    widths = getattr(config, "hidden_size", None), getattr(config, "intermediate_size", None)
    if compute.device != "cpu" or not all(isinstance(width, int) for width in widths):
        return Way(compute.dtype, as_rows)
    formats = {compute.dtype}
    if _stored_bytes(base_dir) <= SMALL_BYTES:
        formats.add(torch.float32)
    return fastest_way(sorted(formats, key=str), *widths)


def _stored_bytes(model_dir: Path) -> int:
    return sum(path.stat().st_size for path in model_dir.glob("*.safetensors"))


@contextmanager
def _base_as_it_is(model: Any) -> Iterator[None]:
    """Give 4-bit weights back exactly what they were, so that the base goes on to answer as before.

    On CPUs with AVX512-BF16 the first answer repacks them. PEFT asks for the state of all weights when it loads an
    adapter, for which bitsandbytes unpacks them, and rounds their scales (0.50.2, ``_save_to_state_dict``).
    """
    squeezed = [weight for weight in model.parameters() if getattr(weight, "quant_state", None)]
    before = [(weight, weight.data, dict(vars(weight.quant_state))) for weight in squeezed]
    yield
    for weight, data, state in before:
        weight.data = data
        vars(weight.quant_state).clear()
        vars(weight.quant_state).update(state)
