"""Which device computes, and in which number format: measured, not assumed.

Imports torch, so only the child processes may import this.

Without AVX512-BF16 or AMX a CPU only emulates bf16 (3 times slower here than fp32), with AVX512-BF16 and without AMX an Intel
Xeon took 1.9 times as long as in fp32, and
``torch.cuda.is_bf16_supported()`` counts emulation too; so look at what the hardware does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import BitsAndBytesConfig

PROBE_SHAPE = (512, 576, 1536)  # tokens, width and inner width of the starter model's largest layer
PROBE_REPEATS = 25  # a few are not enough while another program uses the processor
CLEARLY_FASTER = 1.2


@dataclass(frozen=True)
class Compute:
    """Where and how to compute. Weights that train are fp32 in either precision."""

    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def quantization(self, base: Literal["plain", "nf4", "int8"]) -> BitsAndBytesConfig | None:
        """Return how the base model is squeezed, or ``None``.

        4 bits as published for QLoRA, NF4 with double quantization (arXiv 2305.14314); 8 bits as in
        LLM.int8() (arXiv 2208.07339).
        """
        if base == "plain":
            return None
        if base == "int8":
            return BitsAndBytesConfig(load_in_8bit=True)
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=self.dtype,
        )

    def autocast(self) -> torch.autocast:
        """Return the context for a forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")


def choose_compute(precision: Literal["auto", "fp32", "bf16"]) -> Compute:
    """Choose the device, and the precision unless the person did."""
    device: Literal["cpu", "cuda"] = "cuda" if torch.cuda.is_available() else "cpu"
    if precision != "auto":
        return Compute(device, precision)
    if device == "cuda":  # bf16 arithmetic came with compute capability 8.0 (Ampere)
        return Compute(device, "bf16" if torch.cuda.get_device_capability()[0] >= 8 else "fp32")
    seconds = _matmul_seconds(torch.float32, torch.bfloat16)
    gain = seconds[torch.float32] / seconds[torch.bfloat16]
    return Compute(device, "bf16" if gain > CLEARLY_FASTER else "fp32")


def _matmul_seconds(*dtypes: torch.dtype) -> dict[torch.dtype, float]:
    """Return the shortest time each format takes; they take turns, so that what disturbs one disturbs all."""
    rows, inner, columns = PROBE_SHAPE
    pairs = {
        dtype: (torch.ones(rows, inner, dtype=dtype), torch.ones(inner, columns, dtype=dtype))
        for dtype in dtypes
    }
    best = dict.fromkeys(dtypes, float("inf"))
    for _ in range(PROBE_REPEATS):  # the first call sets the kernel up, and is no shortest one
        for dtype, (left, right) in pairs.items():
            started = time.perf_counter()
            left @ right
            best[dtype] = min(best[dtype], time.perf_counter() - started)
    return best
