import errno

import pytest
from safetensors import SafetensorError
from torch._inductor.exc import CppCompileError

from workbench.errors import WorkbenchError
from workbench.training.failures import Damaged, Diverged, explain_failure


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WorkbenchError("What.", "Do this."), "What. Do this."),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "ran out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            "ran out of memory",
        ),
        (MemoryError(), "ran out of memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "The disk is full"),
        (RuntimeError("safetensors: No space left on device (os error 28)"), "The disk is full"),
        (ValueError("Target modules {'x'} not found in the base model"), "no layers of the names"),
        (CppCompileError(["g++"], "no such file: x.h"), "Set compile to false, and start again."),
        (KeyError("surprise"), "KeyError: 'surprise' The log has the details."),
    ],
)
def test_known_failures_are_told_in_words(error, words):
    event = explain_failure(error)
    assert words in f"{event.message} {event.hint}"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (RuntimeError("[enforce fail at inline_container.cc] unexpected pos 64 vs 0"), "disk"),
        (Diverged("The loss was not a number."), "diverged"),
        (SafetensorError("Error while deserializing header: InvalidHeader"), "damaged"),
        (Damaged("The checkpoint of step 6 is damaged."), "damaged"),
        (ModuleNotFoundError("No module named 'peft'"), "package"),
        (WorkbenchError("What."), ""),
        (KeyError("surprise"), ""),
    ],
)
def test_the_kind_of_failure_is_known(error, cause):
    assert explain_failure(error).cause == cause
