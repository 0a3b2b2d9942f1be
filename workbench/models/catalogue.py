"""Which models are offered, and what is known of a model before it is here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from workbench.config import STARTER_MODEL
from workbench.errors import WorkbenchError
from workbench.hub import is_repository_name
from workbench.presets import load_presets
from workbench.settings import PRESETS_DIR


class CatalogueEntry(BaseModel):
    """One file of ``presets/models/``: a model a beginner can trust.

    ``parameters`` is a count, ``download_bytes`` and ``context_tokens`` say their unit. ``architecture``
    has the sizes of the model's ``config.json`` under their names there. ``hardware`` is what training it wants.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    summary: str
    repository: str
    licence: str
    kind: Literal["chat", "thinking", "base"]
    languages: str
    hardware: str
    parameters: int
    architecture: dict[str, Any]
    context_tokens: int
    download_bytes: int
    gated: bool = False
    why: str


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        id: What the person chose: a catalogue id, ``owner/name`` on the Hub, or a folder.
        kind: ``starter`` (a wheel), ``hub`` or ``folder``.
        label: What the page calls it.
        location: Repository name or folder; empty for the starter model.
        entry: The catalogue entry, where it has one.
    """

    id: str
    kind: Literal["starter", "hub", "folder"]
    label: str
    location: str
    entry: CatalogueEntry | None = None

    @property
    def slug(self) -> str:
        """The name of its folder in the workspace; distinct ids give distinct folders."""
        return self.id.replace("/", "--").lower() if self.kind == "hub" else self.id


@dataclass(frozen=True)
class ModelFacts:
    """Sizes the plan needs.

    Attributes:
        parameters: Number of weights, or ``None`` when not known before the download.
        architecture: The model's ``config.json``, or the sizes in it; empty when not known.
    """

    parameters: int | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hidden_size(self) -> int | None:
        """Width of the residual stream, or ``None``."""
        text = self.architecture.get("text_config", self.architecture)
        width: int | None = text.get("hidden_size")
        return width

    @property
    def context_tokens(self) -> int | None:
        """The longest text the model can read, or ``None``."""
        text = self.architecture.get("text_config", self.architecture)
        tokens: int | None = text.get("max_position_embeddings")
        return tokens


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Return the offered models by id, the smallest first."""
    entries = load_presets(PRESETS_DIR / "models", CatalogueEntry)
    return dict(sorted(entries.items(), key=lambda item: item[1].parameters))


def find_model(model_id: str, *, allow_folder: bool = False) -> ModelSource:
    """Resolve what a person chose or typed.

    Args:
        model_id: Catalogue id, ``owner/name``, or (with ``allow_folder``) a folder.
        allow_folder: True on the command line only; the page never takes a path.

    Raises:
        WorkbenchError: It is none of these.
    """
    entry = catalogue().get(model_id)
    if model_id == STARTER_MODEL:
        return ModelSource(model_id, "starter", entry.label if entry else model_id, "", entry)
    if entry:
        return ModelSource(model_id, "hub", entry.label, entry.repository, entry)
    if allow_folder and Path(model_id).expanduser().is_dir():
        folder = Path(model_id).expanduser().resolve()
        return ModelSource(str(folder), "folder", folder.name, str(folder))
    if is_repository_name(model_id, "model"):
        return ModelSource(model_id, "hub", model_id, model_id)
    raise WorkbenchError(
        f"There is no model {model_id!r}.",
        f"Choose one of {', '.join(catalogue())}, or write a Hugging Face name such as "
        "HuggingFaceTB/SmolLM2-360M-Instruct.",
    )


def model_facts(source: ModelSource, model_dir: Path) -> ModelFacts:
    """Return what is known of a model's size: from the catalogue, its files, or its name."""
    if source.entry:
        entry = source.entry
        context = {"max_position_embeddings": entry.context_tokens}
        return ModelFacts(entry.parameters, entry.architecture | context)
    config_path = model_dir / "config.json"
    if config_path.exists():
        config = json.loads(config_path.read_text(encoding="utf-8"))
        weights_bytes = sum(path.stat().st_size for path in model_dir.glob("*.safetensors"))
        bytes_per_weight = 4 if config.get("dtype", config.get("torch_dtype")) == "float32" else 2
        return ModelFacts(weights_bytes // bytes_per_weight, config)
    return ModelFacts(_parameters_in_name(source.id))


def _parameters_in_name(name: str) -> int | None:
    """Read ``135M`` or ``7B`` out of a model's name, as most names carry it."""
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", name.lower())
    if not match:
        return None
    return int(float(match[1]) * (1e9 if match[2] == "b" else 1e6))
