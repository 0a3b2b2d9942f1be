"""What this computer has. Plain facts; never raises, never imports torch."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from workbench.cgroup import cpu_limit, memory_limit
from workbench.settings import visible_cards

# Instructions that multiply in bf16, as Linux lists them, with the maker whose processors they make quicker; empty for any.
# Without AMX, an Intel Xeon took 1.9 times as long with AVX512-BF16 as in fp32 (measured, as ``compute.py`` does).
BF16_INSTRUCTIONS = (("amx_bf16", ""), ("avx512_bf16", "AuthenticAMD"))
BF16_CAPABILITY = 8.0  # compute capability since which cards multiply in bf16 (Ampere)
_CARD = re.compile(r"\d+, [^,]+, [^,]+, \d+, \d+, \d+\.\d+")  # a line of what nvidia-smi is asked
CPU_DETAILS = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card; ``has_bf16`` says whether it multiplies in that format itself."""

    name: str
    total_bytes: int
    free_bytes: int
    has_bf16: bool


@dataclass(frozen=True)
class Hardware:
    """One look at what this process may use of the machine.

    Attributes:
        cpu_cores: Physical cores.
        memory_bytes: Of the machine or, where that is less, of the container.
        free_memory_bytes: Likewise.
        free_disk_bytes: Of the disk asked about.
        cpu_is_quick_in_bf16: Whether the processor multiplies in bf16 itself, and quicker than in fp32.
        gpus: The cards that a child process sees, in its order; none where torch cannot use them.
    """

    cpu_cores: int
    memory_bytes: int
    free_memory_bytes: int
    free_disk_bytes: int
    cpu_is_quick_in_bf16: bool
    gpus: tuple[Gpu, ...]


def look(disk_of: Path) -> Hardware:
    """Return the machine's facts; the disk is the one that holds ``disk_of`` or will."""
    memory = psutil.virtual_memory()
    limit = memory_limit()
    return Hardware(
        cpu_cores=cpu_cores(),
        memory_bytes=min(memory.total, limit.total_bytes) if limit else memory.total,
        free_memory_bytes=min(memory.available, limit.free_bytes) if limit else memory.available,
        free_disk_bytes=free_disk_bytes(disk_of),
        cpu_is_quick_in_bf16=_cpu_is_quick_in_bf16(),
        gpus=_gpus(),
    )


def free_disk_bytes(path: Path) -> int:
    """Return how much is free on the disk that holds ``path`` or will."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def describe_machine() -> str:
    """Return what makes measurements comparable: processor, cores and graphics cards."""
    gpus = ", ".join(gpu.name for gpu in _gpus())
    return f"{platform.processor()} {platform.machine()}, {cpu_cores()} cores, {gpus or 'no GPU'}"


def cpu_cores() -> int:
    """Return how many physical cores this process may use, at least 1.

    Hyper-threads share the arithmetic units, so they do not speed up matrix multiplication.
    """
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = getattr(psutil.Process(), "cpu_affinity", lambda: range(physical))()
    return max(1, min(physical, len(allowed), int(cpu_limit() or physical)))


def _cpu_is_quick_in_bf16() -> bool:
    try:
        details = CPU_DETAILS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system than Linux
        return False
    return any(name in details and maker in details for name, maker in BF16_INSTRUCTIONS)


def _gpus() -> tuple[Gpu, ...]:
    """Return the cards a child process computes on."""
    if not _torch_has_cuda():
        return ()
    fields = "index,uuid,name,memory.total,memory.free,compute_cap"
    return read_cards(_ask_nvidia(fields), visible_cards())


def read_cards(listing: str, visible: Sequence[str]) -> tuple[Gpu, ...]:
    """Choose the visible cards out of what ``nvidia-smi`` lists.

    Args:
        listing: A line for each card: index, UUID, name, total and free MiB, compute capability.
        visible: Indices, or beginnings of UUIDs, as CUDA takes them: the first one that is none hides the rest.
    """
    rows = [line.split(", ") for line in listing.splitlines() if _CARD.fullmatch(line)]
    cards: list[Gpu] = []
    for name in visible:
        named = (
            row
            for row in rows
            if name == row[0] or (name[:4] == "GPU-" and row[1].startswith(name))
        )
        row = next(named, None)
        if row is None:
            break
        mib = 1024 * 1024
        has_bf16 = float(row[5]) >= BF16_CAPABILITY
        cards.append(Gpu(row[2].strip(), int(row[3]) * mib, int(row[4]) * mib, has_bf16))
    return tuple(cards)


def _torch_has_cuda() -> bool:
    """Say whether the torch that is installed was built for CUDA; it is not imported for that."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None:
        return False
    version = Path(torch.origin).with_name("version.py").read_text(encoding="utf-8")
    return re.search(r"^cuda\b[^=]*= *['\"]", version, re.MULTILINE) is not None


def gpu_use(gpu: str) -> float | None:
    """Return how busy a card was in the last moment, from 0 to 1; ``None`` where the driver does not tell.

    Args:
        gpu: Its number, bus or UUID, as ``nvidia-smi --id`` takes it.
    """
    found = _ask_nvidia("utilization.gpu", f"--id={gpu}").strip()
    return int(found) / 100 if found.isdecimal() else None


def _ask_nvidia(fields: str, *options: str) -> str:
    """Return a line for each card; empty where there is no driver."""
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", *options]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout
