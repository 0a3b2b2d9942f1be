"""How far the fetching of a model is: told by one process, shown by others through a small file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from workbench.files import write_text_atomically


@dataclass(frozen=True)
class FetchProgress:
    """One moment of a fetch.

    Attributes:
        state: What is being done, or how it ended.
        done_bytes: Downloaded so far.
        total_bytes: Size of the download; 0 when not known yet.
        message: A sentence for the person, for ``failed`` above all.
    """

    state: Literal["downloading", "converting", "done", "failed"]
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""


Report = Callable[[FetchProgress], None]


def write_progress(path: Path, progress: FetchProgress) -> None:
    """Replace the progress file."""
    write_text_atomically(path, json.dumps(asdict(progress)))


def read_progress(path: Path) -> FetchProgress | None:
    """Return the last written progress, or ``None`` when there is none."""
    try:
        return FetchProgress(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
