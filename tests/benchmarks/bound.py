"""How fast a training step could be at most: as fast as this computer multiplies matrices of the model's shapes."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from workbench.compute import Compute
from workbench.models.facts import Shape
from workbench.models.rendering import IGNORED

MEASURED_SECONDS = 1.0
# Rows of the left matrix. A graphics card is not filled by as few as a processor.
ROWS = {"cpu": 2048, "cuda": 8192}
# Multiplications between two looks at the clock; a graphics card must not wait for each look.
PASSES = {"cpu": 1, "cuda": 20}


def read_shape(model_dir: Path) -> Shape:
    """Return the sizes of a model that is here."""
    shape = Shape.of(json.loads((model_dir / "config.json").read_text(encoding="utf-8")))
    if shape is None:
        raise SystemExit(f"The sizes in {model_dir / 'config.json'} are not those of one we know.")
    return shape


def matmul_bound(
    shape: Shape, compute: Compute, method: str, rank: int, examples: Sequence[dict[str, Any]]
) -> float:
    """Return the tokens per second at which a step would be matrix multiplication and nothing else.

    Every token counts that the examples have, whether or not a trainer computes it anew.
    """
    return matmul_rate(shape, compute) / operations_per_token(shape, method, rank, examples)


def operations_per_token(
    shape: Shape, method: str, rank: int, examples: Sequence[dict[str, Any]]
) -> float:
    """Return the floating-point operations that a token needs in linear layers and head.

    Of every frozen weight 4 and of every trained one 6 (forward, and backward by input and by weight); the head at
    supervised positions only. What a checkpointed layer computes a second time is not needed, so it does not count.
    """
    sizes = [*shape.linear_sizes] * shape.layers
    adapter = sum((inputs + outputs) * rank for inputs, outputs in sizes)
    linear = sum(inputs * outputs for inputs, outputs in sizes)
    tokens = sum(len(example["input_ids"]) for example in examples)
    supervised = sum(label != IGNORED for e in examples for label in e["labels"][1:])
    head = shape.vocabulary * shape.width * supervised / tokens
    return 6 * (linear + head) if method == "full" else 4 * (linear + head) + 6 * adapter


def matmul_rate(shape: Shape, compute: Compute) -> float:
    """Return the floating-point operations per second at the shapes of the model's layers."""
    rows, passes = ROWS[compute.device], PASSES[compute.device]
    options = {"dtype": compute.dtype, "device": compute.device}
    pairs = [
        (torch.randn(rows, inputs, **options), torch.randn(inputs, outputs, **options))
        for inputs, outputs in shape.linear_sizes
    ]
    _multiply(pairs, 1, compute)  # the first time sets the kernels up
    done, seconds = 0.0, 0.0
    while seconds < MEASURED_SECONDS:
        seconds += _multiply(pairs, passes, compute)
        done += passes * 2 * rows * shape.layer_weights
    del pairs
    torch.cuda.empty_cache()  # the trainers need the memory now
    return done / seconds


def _multiply(
    pairs: list[tuple[torch.Tensor, torch.Tensor]], passes: int, compute: Compute
) -> float:
    """Multiply every pair so many times, and return the seconds it took."""
    started = time.perf_counter()
    for _ in range(passes):
        for left, right in pairs:
            left @ right
    if compute.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
