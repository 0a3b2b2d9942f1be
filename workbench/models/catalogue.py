"""Which models are offered: a file of ``presets/models/`` each."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

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


@cache
def catalogue() -> dict[str, CatalogueEntry]:
    """Return the offered models by id, the smallest first."""
    entries = load_presets(PRESETS_DIR / "models", CatalogueEntry)
    return dict(sorted(entries.items(), key=lambda item: item[1].parameters))
