"""What is known of a model's size, before any weight is loaded and often before it is here."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.models.sources import ModelSource


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer that decide its memory."""

    layers: int
    width: int
    inner: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, architecture: Mapping[str, Any]) -> Shape | None:
        """Read them from a ``config.json``; ``None`` where it does not say."""
        text = architecture.get("text_config", architecture)
        try:
            heads = text["num_attention_heads"]
            head = text.get("head_dim") or text["hidden_size"] // heads
            return cls(
                layers=text["num_hidden_layers"],
                width=text["hidden_size"],
                inner=text["intermediate_size"],
                query=heads * head,
                key_value=(text.get("num_key_value_heads") or heads) * head,
                vocabulary=text["vocab_size"],
                tied=bool(text.get("tie_word_embeddings", False)),
            )
        except (KeyError, TypeError):  # another kind of model, or a size for each layer
            return None

    @property
    def linear_sizes(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers in one layer of the model."""
        return [
            (self.width, self.query),
            (self.width, self.key_value),
            (self.width, self.key_value),
            (self.query, self.width),
            (self.width, self.inner),
            (self.width, self.inner),
            (self.inner, self.width),
        ]

    @property
    def layer_weights(self) -> int:
        """Weights of the linear layers in one layer."""
        return sum(inputs * outputs for inputs, outputs in self.linear_sizes)

    @property
    def embedding_weights(self) -> int:
        """Weights of the embeddings and, where it has its own, the head."""
        return self.vocabulary * self.width * (1 if self.tied else 2)

    @property
    def weights(self) -> int:
        """All weights, without the few of norms and biases."""
        return self.layers * self.layer_weights + self.embedding_weights


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


def model_facts(
    source: ModelSource, model_dir: Path, looked_up: Mapping[str, Any] | None = None
) -> ModelFacts:
    """Return what is known of a model's size: from the catalogue, its files, its header, or its name.

    Args:
        source: The model.
        model_dir: Its folder, where it is here.
        looked_up: Its ``config.json`` or the sizes in it, known without its folder; may be empty.
    """
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
    shape = Shape.of(looked_up or {})
    return ModelFacts(shape.weights if shape else _parameters_in_name(source.id), looked_up or {})


def _parameters_in_name(name: str) -> int | None:
    """Read ``135M`` or ``7B`` out of a model's name, as most names carry it."""
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", name.lower())
    if not match:
        return None
    return int(float(match[1]) * (1e9 if match[2] == "b" else 1e6))
