"""Known failures of a run, recognised in one place and told in words."""

from __future__ import annotations

import errno

from safetensors import SafetensorError

from workbench.errors import WorkbenchError
from workbench.runs.events import Cause, FinishedEvent


def explain_failure(error: BaseException) -> FinishedEvent:
    """Return the last event of a run that failed: what went wrong and what to do about it.

    Args:
        error: Whatever ended the run.
    """
    cause, message, hint = _explain(error)
    return FinishedEvent(outcome="failed", message=message, hint=hint, cause=cause)


def _explain(error: BaseException) -> tuple[Cause, str, str]:
    text = str(error).lower()
    if isinstance(error, WorkbenchError):
        return _cause_of(error), error.message, error.hint
    if is_out_of_memory(error):
        return (
            "memory",
            "The computer ran out of memory.",
            "Start a safer copy: it reads fewer tokens at a time. QLoRA or a smaller model need less, too.",
        )
    if is_disk_full(error):
        return "disk", "The disk is full.", "Free some space, then resume the run."
    if isinstance(error, ImportError):
        return (
            "package",
            f"A package is missing or damaged: {_first_line(error)}",
            "Install the workbench again (make run), then resume the run.",
        )
    if isinstance(error, SafetensorError):
        return (
            "damaged",
            f"A file with weights is damaged: {_first_line(error)}",
            "Delete the model under Configure, Models on this computer; it is fetched again.",
        )
    if "all-linear" in text or "target_modules" in text or "target modules" in text:
        return (
            "",
            "The model has no layers of the names given as target modules.",
            "Set target modules to all-linear.",
        )
    return (
        "",
        f"Training ended with an error: {type(error).__name__}: {_first_line(error)}",
        "The log has the details.",
    )


def _cause_of(error: WorkbenchError) -> Cause:
    return "diverged" if isinstance(error, Diverged) else ""


class Diverged(WorkbenchError):
    """The loss is no number any more."""


def is_disk_full(error: BaseException) -> bool:
    """Say whether a file could not be written for want of room; torch and safetensors say it in their own words."""
    text = str(error).lower()
    return (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "no space left" in text
        or "file write failed" in text
        or "unexpected pos" in text  # torch's archive writer, when a write came short
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory was short, on a graphics card or in the computer."""
    text = str(error).lower()
    return (
        "out of memory" in text or "can't allocate memory" in text or isinstance(error, MemoryError)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]
