"""What is known of a model's size, before any weight is loaded and often before it is here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.models.headers import Shapes, typical_shapes, weight_shapes
from workbench.models.sources import ModelSource
from workbench.presets import Base, MethodPreset

# Under one of these names a config.json says how many experts its layers have, each with weights of its own.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# Kinds with layers that look at a window, also where their files do not say so: transformers fills it in.
WINDOWED = ("gemma2", "gemma3_text")


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer that decide its memory."""

    layers: int
    width: int
    inner: int
    heads: int
    query: int
    key_value: int
    vocabulary: int
    tied: bool

    @classmethod
    def of(cls, architecture: Mapping[str, Any]) -> Shape | None:
        """Read them from a ``config.json``; ``None`` where it does not say, and for a mixture of experts."""
        text = architecture.get("text_config", architecture)
        if _has_experts(text):
            return None
        try:
            heads = text["num_attention_heads"]
            head = text.get("head_dim") or text["hidden_size"] // heads
            return cls(
                layers=text["num_hidden_layers"],
                width=text["hidden_size"],
                inner=text["intermediate_size"],
                heads=heads,
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
        shapes: The shape of every weight, by name; of a model that is not here those it may have, or none.
        missing_bytes: What the disk takes before it can be loaded; 0 when it is here, ``None`` when not known.
    """

    parameters: int | None = None
    architecture: Mapping[str, Any] = field(default_factory=dict)
    shapes: Shapes = field(default_factory=dict)
    missing_bytes: int | None = None

    @property
    def has_experts(self) -> bool:
        """Whether a token goes through a few of many parts, so that size says little of speed."""
        return _has_experts(self.architecture.get("text_config", self.architecture))

    @property
    def squeezed_with(self) -> str:
        """What the weights in its files were squeezed with, such as ``bitsandbytes``; empty where they are not."""
        squeezed = self.architecture.get("quantization_config")
        return str(squeezed.get("quant_method", "bitsandbytes")) if squeezed is not None else ""

    def base_of(self, method: MethodPreset) -> Base:
        """Return how its linear layers are held in memory: as the method wants, or as its files squeezed them."""
        if not self.squeezed_with:
            return method.base
        return "int8" if self.architecture["quantization_config"].get("load_in_8bit") else "nf4"

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


def attends_to_all(architecture: Mapping[str, Any]) -> bool:
    """Say whether every layer attends to all that came before, and bends no score; else rows must be filled up.

    Args:
        architecture: A ``config.json``, or what is known of it.
    """
    text = architecture.get("text_config", architecture)
    windowed = text.get("model_type") in WINDOWED
    kinds = text.get("layer_types") or ["sliding_attention" if windowed else "full_attention"]
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    # Phi 3.5 has a window that is longer than anything it can read.
    sees_all = window is None or window >= (text.get("max_position_embeddings") or math.inf)
    return (
        set(kinds) == {"full_attention"}
        and (sees_all or bool(text.get("layer_types")))
        and not text.get("attn_logit_softcapping")
    )


def model_facts(
    source: ModelSource,
    model_dir: Path,
    looked_up: Mapping[str, Any] | None = None,
    download_bytes: int | None = None,
) -> ModelFacts:
    """Return what is known of a model's size: from the catalogue, its files, its header, or its name.

    Args:
        source: The model.
        model_dir: Its folder, where it is here.
        looked_up: Its ``config.json`` or the sizes in it, known without its folder; may be empty.
        download_bytes: What a hub said there is to download, where it was asked.
    """
    config_path = model_dir / "config.json"
    is_here = config_path.exists()
    if source.entry:
        entry = source.entry
        architecture = entry.architecture | {"max_position_embeddings": entry.context_tokens}
        shapes = weight_shapes(model_dir) if is_here else {}
        return ModelFacts(
            entry.parameters,
            architecture,
            shapes or typical_shapes(entry.architecture["model_type"]),
            0 if is_here else max(entry.download_bytes, 2 * entry.parameters),
        )
    if is_here:
        config = json.loads(config_path.read_text(encoding="utf-8"))
        shapes = weight_shapes(model_dir)
        return ModelFacts(_count(shapes, config), config, shapes, 0)
    known = looked_up or {}
    shape = Shape.of(known)
    parameters = shape.weights if shape else _parameters_in_name(source.id)
    shapes = typical_shapes(str(known.get("model_type", "")))
    return ModelFacts(parameters, known, shapes, _missing_bytes(source, parameters, download_bytes))


def _missing_bytes(
    source: ModelSource, parameters: int | None, download_bytes: int | None
) -> int | None:
    """Return what a model takes that is not here; a GGUF file is there beside what it is converted to."""
    if download_bytes is not None and not source.file:
        return download_bytes
    return None if parameters is None else (download_bytes or 0) + 2 * parameters


def _count(shapes: Shapes, config: Mapping[str, Any]) -> int | None:
    """Return how many weights a model has; of a squeezed one its files do not tell."""
    if "quantization_config" not in config and shapes:
        return sum(math.prod(shape) for shape in shapes.values())
    shape = Shape.of(config)
    return shape.weights if shape else None


def _has_experts(sizes: Mapping[str, Any]) -> bool:
    return any(sizes.get(name) not in (None, 0, 1) for name in EXPERTS)


def _parameters_in_name(name: str) -> int | None:
    """Read ``135M`` or ``7B`` out of a model's name, as most names carry it; not the ``8x7B`` of experts."""
    match = re.search(r"(?<![\dx.])(\d+(?:\.\d+)?)\s*([bm])(?![a-z])", name.lower())
    if not match:
        return None
    return int(float(match[1]) * (1e9 if match[2] == "b" else 1e6))
