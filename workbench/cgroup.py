"""What a container or a service manager allows this process (Linux control groups, both versions); never raises.

Names of files: https://docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html. Limits hold for a
group and all below it, so every group on the way up counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest limit: how much there may be, and how much of that is not in use."""

    total_bytes: int
    free_bytes: int


def memory_limit(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> MemoryLimit | None:
    """Return the limit that leaves the least memory, or ``None`` without any."""
    found = []
    for group in _groups("memory", root, own_groups):
        limit = _number(group / "memory.max") or _number(group / "memory.limit_in_bytes")
        used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            # Files that were read are kept in memory as long as nobody needs it.
            used -= min(used, _inactive_file_bytes(group / "memory.stat"))
            found.append(MemoryLimit(limit, max(0, limit - used)))
    return min(found, key=lambda limit: limit.free_bytes, default=None)


def cpu_limit(root: Path = ROOT, own_groups: Path = OWN_GROUPS) -> float | None:
    """Return how many CPUs' time may be used, or ``None`` without a limit."""
    found = []
    for group in _groups("cpu", root, own_groups):
        words = _text(group / "cpu.max").split()
        words = words or [
            _text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _groups(controller: str, root: Path, own_groups: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups, the innermost first; a container sees its own as the root."""
    for line in _text(own_groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controllers if controllers else root
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _inactive_file_bytes(path: Path) -> int:
    words = dict(line.split(" ", 1) for line in _text(path).splitlines() if " " in line)
    return int(words.get("total_inactive_file") or words.get("inactive_file") or 0)


def _number(path: Path) -> int | None:
    text = _text(path).strip()  # "max" where there is no limit
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
