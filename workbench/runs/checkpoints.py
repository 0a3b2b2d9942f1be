"""Checkpoints on disk: which are complete, which to keep. No torch: the page lists them, too.

A folder is complete when it has ``complete.json``, written last, and every file has the size it says; a
killed process or a full disk leaves folders without it, which nobody reads. It is whole when its files have
the checksums, too, which takes reading them all: only a run that goes on from it looks.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.presets import methods
from workbench.runs.store import Run

MARK = "complete.json"
_PREFIX = "checkpoint-"
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after ``step`` steps: its model, and what going on needs."""

    step: int
    directory: Path


def mark_complete(directory: Path) -> None:
    """Say that a folder has all its files; the last thing that is written."""
    files = {
        str(path.relative_to(directory)): {"bytes": path.stat().st_size, "crc32": _crc32(path)}
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    write_text_atomically(directory / MARK, json.dumps(files, indent=1) + "\n")


def complete_checkpoints(checkpoints_dir: Path) -> list[Checkpoint]:
    """Return the complete ones, the earliest first."""
    return [one for one in _marked(checkpoints_dir) if _has_its_files(one.directory)]


def models_by_step(run: Run) -> dict[int, Path]:
    """Return the folders of a run's checkpoints that can be loaded as a model, by step, the earliest first."""
    if methods()[run.config.method].changes_the_base:
        return {}
    return {one.step: one.directory for one in complete_checkpoints(run.checkpoints_dir)}


def checkpoint_instead(run: Run) -> int | None:
    """Return the step of the checkpoint that stands for a run's model: the newest one.

    ``None`` where a model was saved, or nothing was kept that can be loaded.
    """
    if run.model_dir.is_dir():
        return None
    return max(models_by_step(run), default=None)


def instead_words(run: Run) -> str:
    """Say which checkpoint stands for a run's model; empty where none does."""
    step = checkpoint_instead(run)
    if step is None:
        return ""
    return f"This run saved no model, so its newest checkpoint answers: that of step {step:,}."


def model_of_step(run: Run, step: int) -> Path:
    """Return the folder of the model after so many steps.

    Raises:
        WorkbenchError: There is no such checkpoint, or those of the run's method hold no model.
    """
    if methods()[run.config.method].changes_the_base:
        raise WorkbenchError(
            f"A checkpoint of {methods()[run.config.method].label} is no model by itself.",
            "Use the run's saved model instead.",
        )
    found = models_by_step(run)
    if step not in found:
        steps = ", ".join(f"{step:,}" for step in found) or "none"
        raise WorkbenchError(
            f'"{run.name}" has no checkpoint of step {step:,}.', f"It has: {steps}."
        )
    return found[step]


def newest_checkpoint(checkpoints_dir: Path) -> Checkpoint | None:
    """Return the complete one with the most steps, or ``None``."""
    found = complete_checkpoints(checkpoints_dir)
    return found[-1] if found else None


def is_whole(checkpoint: Checkpoint) -> bool:
    """Read a checkpoint; say whether it has just what was written into it."""
    return _has_its_files(checkpoint.directory, read=True)


def newest_whole(checkpoints_dir: Path) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """Read checkpoints, the newest first, until one has just what was written into it.

    Returns:
        That one, or ``None``; and those before it, which were complete once and are damaged.
    """
    damaged: list[Checkpoint] = []
    for checkpoint in reversed(_marked(checkpoints_dir)):
        if is_whole(checkpoint):
            return checkpoint, damaged
        damaged.append(checkpoint)
    return None, damaged


def checkpoint_of(checkpoints_dir: Path, step: int | None) -> Checkpoint | None:
    """Return the complete one of a step, or ``None``."""
    found = complete_checkpoints(checkpoints_dir)
    return next((one for one in found if one.step == step), None)


def best_before(checkpoint: Checkpoint) -> Checkpoint | None:
    """Return the best checkpoint of a run up to this one, as its checks say, if it is still there."""
    return checkpoint_of(checkpoint.directory.parent, _state_of(checkpoint).get("best_global_step"))


def lacks_check(checkpoint: Checkpoint, every_steps: int) -> bool:
    """Say whether a check was due at a checkpoint and did not happen, because the person asked to stop.

    Args:
        checkpoint: One that a run goes on from.
        every_steps: How far apart checks are.
    """
    if checkpoint.step % every_steps:
        return False
    history = log_history(checkpoint)
    return not any("eval_loss" in one and one["step"] == checkpoint.step for one in history)


def log_history(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    """Return what Trainer had logged by then: losses, checks, learning rates."""
    history: list[dict[str, Any]] = _state_of(checkpoint)["log_history"]
    return history


def delete_unusable(checkpoints_dir: Path, damaged: Iterable[Checkpoint] = ()) -> None:
    """Remove what a killed process left half-written, and what is damaged."""
    for checkpoint in damaged:
        (checkpoint.directory / MARK).unlink(missing_ok=True)
    complete = {checkpoint.directory for checkpoint in complete_checkpoints(checkpoints_dir)}
    for path in checkpoints_dir.glob(f"{_PREFIX}*"):
        if path not in complete:
            shutil.rmtree(path, ignore_errors=True)


def keep_only(checkpoints_dir: Path, newest: int, also: Iterable[int] = ()) -> None:
    """Remove complete checkpoints but the newest ones.

    Args:
        checkpoints_dir: A run's.
        newest: How many of the newest stay.
        also: Steps whose checkpoints stay besides.
    """
    for checkpoint in complete_checkpoints(checkpoints_dir)[:-newest]:
        if checkpoint.step not in also:
            (checkpoint.directory / MARK).unlink()  # first: what is half-deleted must not be read
            shutil.rmtree(checkpoint.directory, ignore_errors=True)


def _state_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what Trainer has noted of the training so far."""
    text = (checkpoint.directory / "trainer_state.json").read_text(encoding="utf-8")
    state: dict[str, Any] = json.loads(text)
    return state


def _marked(checkpoints_dir: Path) -> list[Checkpoint]:
    """Return those that were complete once, the earliest first."""
    found = [
        Checkpoint(int(mark.parent.name.removeprefix(_PREFIX)), mark.parent)
        for mark in checkpoints_dir.glob(f"{_PREFIX}*/{MARK}")
        if mark.parent.name.removeprefix(_PREFIX).isdecimal()
    ]
    return sorted(found, key=lambda checkpoint: checkpoint.step)


def _has_its_files(directory: Path, *, read: bool = False) -> bool:
    """Say whether every file is there with its size; with ``read`` also with its checksum."""
    try:
        files = json.loads((directory / MARK).read_text(encoding="utf-8"))
        return all(_is_as_written(directory / name, kept, read) for name, kept in files.items())
    except (OSError, ValueError, AttributeError, LookupError):
        return False


def _is_as_written(path: Path, kept: Any, read: bool) -> bool:
    if not isinstance(kept, dict):  # written before there were checksums: the size alone
        kept, read = {"bytes": kept}, False
    return path.stat().st_size == kept["bytes"] and not (read and _crc32(path) != kept["crc32"])


def _crc32(path: Path) -> str:
    """Return the checksum of a file as hexadecimal digits; finds what a disk changed, not what a person did."""
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return f"{checksum:08x}"
