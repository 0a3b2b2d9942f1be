"""How much of what a run learned is used: a part of its adapter, chosen on the Playground and kept in the run.

``runs/<id>/strength.json`` has it, for the saved model and every checkpoint; without that file it is 1.
"""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.presets import methods
from workbench.runs.store import Run, read_json, write_json

AS_TRAINED = 1.0
MOST = 2.0  # more only breaks the model
DIGITS = 4  # a slider's 0.15 may come as 0.15000000000000002


def can_scale(run: Run) -> bool:
    """Say whether a run's method lets one choose the strength; checked again where its adapter is loaded."""
    return methods()[run.config.method].scalable


def kept_strength(run: Run) -> float:
    """Return the strength that is kept with a run; 1 where none was ever kept.

    Raises:
        WorkbenchError: The file is damaged.
    """
    path = _path(run)
    if not path.exists():
        return AS_TRAINED
    try:
        return _checked(run, float(read_json(path)["strength"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WorkbenchError(
            f"The strength kept with {run.name} cannot be read: {path}.",
            "Delete that file; the run is used as trained then.",
        ) from error


def keep_strength(run: Run, strength: float) -> None:
    """Keep a strength with a run.

    Raises:
        WorkbenchError: The method has none, it is out of range, or it could not be written.
    """
    try:
        write_json(_path(run), {"strength": _checked(run, round(strength, DIGITS))})
    except OSError as error:
        raise WorkbenchError(
            f"The strength could not be written to disk: {error.strerror or error}.",
            "Free some space and press the button again.",
        ) from error


def chosen_strength(run: Run, asked: float | None) -> float:
    """Return the strength to use: the one that is asked for, else the one kept with the run.

    Raises:
        WorkbenchError: The method has none, or it is out of range.
    """
    return kept_strength(run) if asked is None else _checked(run, asked)


def strength_words(strength: float) -> str:
    """Say at which strength a tuned model is used; empty where it is used as trained."""
    if strength == AS_TRAINED:
        return ""
    return f"Strength of the training: {strength:g} (0 is the model before training, 1 as trained)."


def _checked(run: Run, strength: float) -> float:
    if not 0 <= strength <= MOST:
        raise WorkbenchError(
            f"The strength is {strength:g}, and it must be from 0 to {MOST:g}.",
            "0 is the model before training, 1 as trained.",
        )
    if strength != AS_TRAINED and not can_scale(run):
        label = methods()[run.config.method].label
        raise WorkbenchError(
            f"The strength of {label} cannot be changed; it works for LoRA and its plain relatives.",
            "Leave the strength at 1.",
        )
    return float(strength)


def _path(run: Run) -> Path:
    return run.directory / "strength.json"
