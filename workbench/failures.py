"""What ends training, evaluation or export, recognised in one place and told in words."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.runs.events import Cause

Words = Mapping[Cause, tuple[str, str]]  # message and hint by cause
# CUDA and the system; torch on Linux, on Windows; cuBLAS.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
)
# numpy, which writes GGUF files, gives no reason: "8192 requested and 32 written".
_WRITTEN_SHORT = re.compile(r"\d+ requested and \d+ written")


@dataclass(frozen=True)
class Failure:
    """Why something ended, and what to do about it."""

    cause: Cause
    message: str
    hint: str


def explain(error: BaseException, what: str, words: Words) -> Failure:
    """Say what went wrong.

    Args:
        error: Whatever ended the process.
        what: What ended, as a sentence about an unknown error begins: ``Training``.
        words: For ``memory`` and ``disk``.
    """
    if isinstance(error, WorkbenchError):
        return Failure("", error.message, error.hint)
    if cause := cause_of(error):
        return Failure(cause, *words[cause])
    kind = type(error).__name__
    message = f"{what} ended with an error: {kind}: {first_line(error)}"
    return Failure("", message, "The log has the details.")


def cause_of(error: BaseException) -> Cause:
    """Return what any child process can run out of: ``memory`` or ``disk``; empty for all else."""
    if is_out_of_memory(error):
        return "memory"
    return "disk" if is_disk_full(error) else ""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether memory was short, on a graphics card or in the computer."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Say whether a file could not be written for want of room; libraries say it in their own words."""
    text = str(error).lower()
    return (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "no space left" in text
        or "file write failed" in text
        or "unexpected pos" in text  # torch's archive writer, when a write came short
        or bool(_WRITTEN_SHORT.search(text))
    )


def first_line(error: BaseException) -> str:
    """Return the beginning of what an error says."""
    return (str(error).splitlines() or [""])[0][:300]
