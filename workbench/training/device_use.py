"""How busy the device is that trains."""

from __future__ import annotations

import threading
import time

import psutil
import torch

from workbench.hardware import cpu_cores, gpu_use

LOOK_SECONDS = 2.0  # asking the driver takes a tenth of a second


class CpuUse:
    """The share of the cores that this process kept busy."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._process.cpu_percent()  # what it returns from now on counts from here

    def share(self) -> float:
        """Return it for the time since the last call, from 0 to 1."""
        return min(1.0, self._process.cpu_percent() / (100 * cpu_cores()))


class GpuUse:
    """How busy the graphics card is, asked in the background."""

    def __init__(self) -> None:
        self._share: float | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def share(self) -> float | None:
        """Return it as of a moment ago, from 0 to 1; ``None`` where the driver does not tell."""
        return self._share

    def _watch(self) -> None:
        gpu = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        while True:
            self._share = gpu_use(gpu)
            time.sleep(LOOK_SECONDS)
