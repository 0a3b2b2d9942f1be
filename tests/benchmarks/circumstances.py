"""When, where and with what a benchmark was run, to be kept beside its figures."""

from __future__ import annotations

import datetime
import platform
import subprocess
from pathlib import Path

from workbench.hardware import CPU_DETAILS, look
from workbench.settings import PROJECT_DIR


def today() -> str:
    """Return the date, such as ``30 November 2026``."""
    now = datetime.datetime.now(tz=datetime.UTC)
    return f"{now.day} {now:%B %Y}"


def describe_computer() -> str:
    """Return processor, cores, memory and graphics cards in words."""
    hardware = look(PROJECT_DIR)
    parts = [
        processor_name(),
        f"{hardware.cpu_cores} cores",
        f"{hardware.memory_bytes / 1e9:.0f} GB",
        *(f"{gpu.name} ({gpu.total_bytes / 1e9:.0f} GB)" for gpu in hardware.gpus),
    ]
    return ", ".join(parts)


def processor_name(details_path: Path = CPU_DETAILS) -> str:
    """Return the processor's name; Linux says it in a file, other systems to Python."""
    if details_path.exists():
        for line in details_path.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def code_version() -> str:
    """Return the commit the code is at, with ``-dirty`` where files were changed since; empty without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
