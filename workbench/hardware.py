"""What this computer has. Plain facts; never raises, never imports torch."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Hardware:
    """One look at the machine. ``cpu_cores`` are physical cores this process may use."""

    cpu_cores: int
    memory_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    gpus: tuple[Gpu, ...]


def look(disk_of: Path) -> Hardware:
    """Return the machine's facts; the disk is the one that holds ``disk_of`` or will."""
    memory = psutil.virtual_memory()
    existing = next(path for path in (disk_of, *disk_of.parents) if path.exists())
    return Hardware(
        cpu_cores=cpu_cores(),
        memory_bytes=memory.total,
        free_memory_bytes=memory.available,
        free_disk_bytes=shutil.disk_usage(existing).free,
        gpus=_nvidia_gpus(),
    )


def describe_machine() -> str:
    """Return what makes measurements comparable: processor, cores and graphics cards."""
    gpus = ", ".join(gpu.name for gpu in _nvidia_gpus())
    return f"{platform.processor()} {platform.machine()}, {cpu_cores()} cores, {gpus or 'no GPU'}"


def cpu_cores() -> int:
    """Return how many physical cores this process may use, at least 1.

    Hyper-threads share the arithmetic units, so they do not speed up matrix multiplication.
    """
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = getattr(psutil.Process(), "cpu_affinity", lambda: range(physical))()
    return max(1, min(physical, len(allowed)))


def gpu_use(gpu: str) -> float | None:
    """Return how busy a card was in the last moment, from 0 to 1; ``None`` where the driver does not tell.

    Args:
        gpu: Its number, bus or UUID, as ``nvidia-smi --id`` takes it.
    """
    found = _ask_nvidia("utilization.gpu", f"--id={gpu}").strip()
    return int(found) / 100 if found.isdecimal() else None


def _nvidia_gpus() -> tuple[Gpu, ...]:
    lines = _ask_nvidia("name,memory.total,memory.free").splitlines()
    rows = (line.rsplit(",", 2) for line in lines if line.count(",") >= 2)
    mib = 1024 * 1024
    return tuple(Gpu(name.strip(), int(total) * mib, int(free) * mib) for name, total, free in rows)


def _ask_nvidia(fields: str, *options: str) -> str:
    """Return a line for each card; empty where there is no driver."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", *options]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout
