"""What a model's files say of its weights, no weight being read: their names and shapes."""

from __future__ import annotations

import functools
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]

LAYER = "model.layers.0."
# The layers of a model that is not here yet, by ``model_type``; those of the catalogue.
_LLAMA = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_PHI3 = ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
LINEAR_LAYERS = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"), _LLAMA),
    **dict.fromkeys(("granite", "olmo2", "smollm3"), _LLAMA),
    "phi3": _PHI3,
}
# What a GGUF file calls the sizes in a config.json; each of them begins with the kind of model.
# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
GGUF_SIZES = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "num_experts": "expert_count",
}
GGUF_EMBEDDINGS, GGUF_HEAD = "token_embd.weight", "output.weight"
GGUF_TYPES = {"gemma3": "gemma3_text"}  # where ``model_type`` is called otherwise
# What one or another of them has besides.
_NORMS = (
    "self_attn.q_norm",
    "self_attn.k_norm",
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)


def weight_shapes(model_dir: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight in a folder's safetensors files, by name; empty where there is none.

    A file that is cut off or none has no weights here; loading it says what is wrong.
    """
    found: dict[str, tuple[int, ...]] = {}
    # Some owners add the same weights once more, under the names of another program.
    paths = list(model_dir.glob("model*.safetensors")) or list(model_dir.glob("*.safetensors"))
    for path in sorted(paths):
        for name, entry in _header(path).items():
            if name != "__metadata__":
                found[name] = tuple(entry["shape"])
    return found


def typical_shapes(model_type: str) -> dict[str, tuple[int, ...]]:
    """Return names that weights of a kind of model may have, with shapes of 0; empty for a kind not known."""
    layers = LINEAR_LAYERS.get(model_type, ())
    if not layers:
        return {}
    matrices = [*(LAYER + layer for layer in layers), "model.embed_tokens", "lm_head"]
    vectors = [*(LAYER + norm for norm in _NORMS), "model.norm"]
    return {f"{name}.weight": (0, 0) for name in matrices} | {
        f"{name}.weight": (0,) for name in vectors
    }


def gguf_sizes(path: Path) -> Mapping[str, Any]:
    """Return the sizes of a model in a GGUF file, under the names they have in a ``config.json``.

    Empty for a file that is not there or none; converting it says what is wrong.
    """
    return _read_gguf(path, path.stat().st_mtime_ns) if path.is_file() else {}


@functools.lru_cache(maxsize=16)  # a plan is made after every key, and a vocabulary takes a second
def _read_gguf(path: Path, changed_ns: int) -> Mapping[str, Any]:
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        kind = str(reader.fields["general.architecture"].contents())
    except (ValueError, KeyError, IndexError):
        return {}
    fields = {name: reader.get_field(f"{kind}.{theirs}") for name, theirs in GGUF_SIZES.items()}
    values = {name: field.contents() for name, field in fields.items() if field is not None}
    sizes = {name: value for name, value in values.items() if isinstance(value, int)}
    tensors = {tensor.name: tensor.shape for tensor in reader.tensors}
    if GGUF_EMBEDDINGS in tensors:
        sizes["vocab_size"] = int(tensors[GGUF_EMBEDDINGS][-1])
    sizes["tie_word_embeddings"] = GGUF_HEAD not in tensors
    return {"model_type": GGUF_TYPES.get(kind, kind)} | sizes


def linear_layers(shapes: Shapes) -> Iterator[str]:
    """Yield the names of the layers inside the model's blocks that are one matrix."""
    for name, shape in shapes.items():
        layer, _, kind = name.rpartition(".")
        is_inside = any(part.isdigit() for part in layer.split("."))
        if is_inside and kind == "weight" and len(shape) == 2:
            yield layer


def _header(path: Path) -> dict[str, dict[str, list[int]]]:
    """Read the header: its length in 8 bytes, then JSON (https://github.com/huggingface/safetensors#format)."""
    with path.open("rb") as file:
        try:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, path.stat().st_size)))
        except (struct.error, ValueError):
            return {}
    return header if isinstance(header, dict) else {}
