"""SHA-256 sums, as ``sha256sum -c`` reads them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

NAME = "SHA256SUMS"


@dataclass(frozen=True)
class ExportedFile:
    """One file of an export: its path in the export with forward slashes, its size, and its SHA-256."""

    name: str
    size_bytes: int
    sha256: str


def measure(path: Path, name: str) -> ExportedFile:
    """Read a file once, a piece at a time."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ExportedFile(name, path.stat().st_size, digest)


def measure_folder(directory: Path) -> list[ExportedFile]:
    """Measure every file of a folder, in the order of their names."""
    return [
        measure(path, path.relative_to(directory).as_posix())
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != NAME
    ]


def sums_text(files: list[ExportedFile]) -> str:
    """Return the lines of a sums file.

    ``sha256sum`` writes a backslash before a line whose name has one, or a line break.
    """
    lines = []
    for file in files:
        name = file.name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        mark = "" if name == file.name else "\\"
        lines.append(f"{mark}{file.sha256}  {name}\n")
    return "".join(lines)
