"""Load and validate the YAML files in ``presets/``: recipes, methods and models.

One file is one preset; its name is its id. Every value stands beside its why.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from workbench.config import TrainingConfig, build_config
from workbench.errors import WorkbenchError
from workbench.settings import PRESETS_DIR

Preset = TypeVar("Preset", bound=BaseModel)
Base = Literal["plain", "nf4", "int8"]  # how linear layers that do not learn are held in memory


class Override(BaseModel):
    """One setting of a recipe, with its why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Any
    why: str


class Recipe(BaseModel):
    """A starting point named for an intent; ``config`` holds only what differs from the defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    summary: str
    why: str
    config: dict[str, Override] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The values alone."""
        return {name: override.value for name, override in self.config.items()}

    @field_validator("config")
    @classmethod
    def _must_be_settings(cls, config: dict[str, Override]) -> dict[str, Override]:
        try:
            build_config({name: override.value for name, override in config.items()})
        except WorkbenchError as error:
            raise ValueError(str(error)) from error
        return config


class MethodPreset(BaseModel):
    """How a method is offered, what it does to the model, and where its own defaults come from.

    Attributes:
        group: Under which heading it is listed.
        saves: An ``adapter`` that needs the base model, or a whole ``model``.
        base: How the base model is held in memory: ``plain``, ``nf4`` (4 bits) or ``int8``.
        padded: It cannot take padding-free batches.
        recomputes: Its layers can be computed a second time instead of keeping their activations.
        scalable: Its adapter is a sum with the base, so that any part of it can be added.
        mixable: Adapters of several runs lie beside each other on one copy of the base.
        mergeable: What it learns can be merged into the model's weights, or is a whole model already.
        continues: Another run can begin with what it learned and go on.
        changes_the_base: It learns beside other weights than the model's, so a checkpoint of it is no model yet.
        model_types: The architectures (``model_type`` in config.json) it works with; empty means all.
        learning_rate: A rate of its own; else ``learning_rate_scale`` multiplies LoRA's.
        config: Values of automatic settings that only this method has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    group: Literal["Recommended", "Whole model", "Relatives of LoRA", "Small additions"]
    summary: str
    when: str
    cost: str
    saves: Literal["adapter", "model"] = "adapter"
    base: Base = "plain"
    padded: bool = False
    recomputes: bool = True
    scalable: bool = False
    mixable: bool = False
    mergeable: bool = True
    continues: bool = True
    changes_the_base: bool = False
    model_types: tuple[str, ...] = ()
    learning_rate: float | None = None
    learning_rate_scale: float = 1.0
    config: dict[str, Any] = {}
    why: str


def load_presets(directory: Path, kind: type[Preset]) -> dict[str, Preset]:
    """Load every ``*.yaml`` in a folder, by id in alphabetical order.

    Raises:
        WorkbenchError: A file does not fit; names the file and the key.
    """
    return {path.stem: _load(path, kind) for path in sorted(directory.glob("*.yaml"))}


@cache
def recipes() -> dict[str, Recipe]:
    """Return the recipes by id."""
    return load_presets(PRESETS_DIR / "recipes", Recipe)


@cache
def methods() -> dict[str, MethodPreset]:
    """Return the methods by id, in the order of the schema."""
    loaded = load_presets(PRESETS_DIR / "methods", MethodPreset)
    order = TrainingConfig.model_json_schema()["properties"]["method"]["enum"]
    return {name: loaded[name] for name in order}


def find_recipe(name: str) -> Recipe:
    """Return one recipe.

    Raises:
        WorkbenchError: There is none of that name.
    """
    found = recipes()
    if name not in found:
        raise WorkbenchError(f"There is no preset {name!r}.", f"Choose one of {', '.join(found)}.")
    return found[name]


def _load(path: Path, kind: type[Preset]) -> Preset:
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise WorkbenchError(f"The preset {path.name} does not fit: {error}") from error
