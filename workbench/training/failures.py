"""What ends a run, told in words: what any child process can meet, and what only training can."""

from __future__ import annotations

from safetensors import SafetensorError

from workbench.errors import WorkbenchError
from workbench.failures import Failure, Words, cause_of, explain, first_line
from workbench.runs.events import FinishedEvent

WORDS: Words = {
    "memory": (
        "The computer ran out of memory.",
        "Start a safer copy: it reads fewer tokens at a time. QLoRA or a smaller model need less, too.",
    ),
    "disk": ("The disk is full.", "Free some space, then resume the run."),
}


class Diverged(WorkbenchError):
    """The loss is no number any more."""


class Damaged(WorkbenchError):
    """What the run goes on from is not what was written."""


def explain_failure(error: BaseException) -> FinishedEvent:
    """Return the last event of a run that failed: what went wrong and what to do about it.

    Args:
        error: Whatever ended the run.
    """
    failure = _only_in_training(error) or explain(error, "Training", WORDS)
    return FinishedEvent(
        outcome="failed", message=failure.message, hint=failure.hint, cause=failure.cause
    )


def _only_in_training(error: BaseException) -> Failure | None:
    if isinstance(error, Diverged):
        return Failure("diverged", error.message, error.hint)
    if isinstance(error, Damaged):
        return Failure("damaged", error.message, error.hint)
    if isinstance(error, WorkbenchError) or cause_of(error):
        return None
    if isinstance(error, ImportError):
        return Failure(
            "package",
            f"A package is missing or damaged: {first_line(error)}",
            "Install the workbench again (make run), then resume the run.",
        )
    if isinstance(error, SafetensorError):
        return Failure(
            "damaged",
            f"A file with weights is damaged: {first_line(error)}",
            "Delete the model under Configure, Models on this computer; it is fetched again.",
        )
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return Failure(
            "",
            f"A part of the model could not be compiled: {first_line(error)}",
            "Set compile to false, and start again.",
        )
    text = str(error).lower()
    if "all-linear" in text or "target_modules" in text or "target modules" in text:
        return Failure(
            "",
            "The model has no layers of the names given as target modules.",
            "Set target modules to all-linear.",
        )
    return None
