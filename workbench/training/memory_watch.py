"""How much memory this process comes to need."""

from __future__ import annotations

import threading

import psutil
import torch

SAMPLING_SECONDS = 0.01


class MemoryWatch:
    """The growth of this process's memory, or of the graphics card's, from ``start`` to ``stop``, or in a block."""

    def __enter__(self) -> MemoryWatch:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> MemoryWatch:
        """Begin to watch."""
        self._process = psutil.Process()
        self._before = self._peak = self._process.memory_info().rss
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Watch no longer; ``peak_bytes`` stays."""
        self._ended.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        """The highest growth so far."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        return self._peak - self._before

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLING_SECONDS):
            self._peak = max(self._peak, self._process.memory_info().rss)
