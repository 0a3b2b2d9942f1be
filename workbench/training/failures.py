"""Known failures of a run, recognised in one place and told in words."""

from __future__ import annotations

import errno

from workbench.errors import WorkbenchError


def explain_failure(error: BaseException) -> tuple[str, str]:
    """Return what went wrong and what to do about it.

    Args:
        error: Whatever ended the run.
    """
    text = str(error).lower()
    if isinstance(error, WorkbenchError):
        return error.message, error.hint
    if is_out_of_memory(error):
        return (
            "The computer ran out of memory.",
            "Lower the micro-batch size or the maximum length, use QLoRA, or choose a smaller model.",
        )
    if getattr(error, "errno", None) == errno.ENOSPC or "no space left" in text:
        return "The disk is full.", "Free some space and start again."
    if "all-linear" in text or "target_modules" in text or "target modules" in text:
        return (
            "The model has no layers of the names given as target modules.",
            "Set target modules to all-linear.",
        )
    return (
        f"Training ended with an error: {type(error).__name__}: {_first_line(error)}",
        "The log has the details.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory was short, on a graphics card or in the computer."""
    text = str(error).lower()
    return (
        "out of memory" in text or "can't allocate memory" in text or isinstance(error, MemoryError)
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300]
