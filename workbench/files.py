"""Files whose existence means "done": written under a temporary name, then renamed."""

from __future__ import annotations

import os
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def write_text_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step; a reader sees the old file or the new one.

    Raises:
        OSError: As from any write; nothing is left behind.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_arrays_atomically(path: Path, **arrays: NDArray[Any]) -> None:
    """Replace ``path`` by a NumPy archive of arrays, in one step and without pickles.

    Raises:
        OSError: As from any write; nothing is left behind.
    """
    with replacing(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_arrays(path: Path, *names: str) -> dict[str, NDArray[Any]] | None:
    """Return arrays of a NumPy archive by name; ``None`` when it is not there, torn, or lacks one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None


@contextmanager
def replacing(path: Path, mode: str = "wb", **how: Any) -> Iterator[IO[Any]]:
    """Write a file that takes the place of ``path`` at the end of the block, or leaves nothing behind.

    Args:
        path: What is replaced.
        mode: As of ``open``.
        **how: Encoding and newline of text, as of ``open``.

    Raises:
        OSError: As from any write.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with temporary.open(mode, **how) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
