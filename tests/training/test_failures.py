import errno

import pytest

from workbench.errors import WorkbenchError
from workbench.training.failures import explain_failure


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
        (KeyError("surprise"), "KeyError: 'surprise' The log has the details."),
    ],
)
def test_known_failures_are_told_in_words(error, words):
    assert words in " ".join(explain_failure(error))
