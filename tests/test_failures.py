import errno

import pytest

from workbench.errors import WorkbenchError
from workbench.evaluation.process import WORDS as EVALUATION
from workbench.export.__main__ import WORDS as EXPORT
from workbench.failures import Failure, explain, is_disk_full, is_out_of_memory

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("safetensors: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc] unexpected pos 64 vs 0"),
        OSError("8192 requested and 32 written"),
    ],
)
def test_a_full_disk_is_known_in_the_words_of_every_library(error):
    assert is_disk_full(error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_short_memory_is_known_in_the_words_of_every_library(error):
    assert is_out_of_memory(error)


def test_an_error_that_asks_for_something_is_no_full_disk():
    assert not is_disk_full(ValueError("two labels were requested and none is there"))


@pytest.mark.parametrize(
    ("error", "words", "expected"),
    [
        (WorkbenchError("What.", "Do this."), EXPORT, Failure("", "What.", "Do this.")),
        (FULL, EXPORT, Failure("disk", *EXPORT["disk"])),
        (FULL, EVALUATION, Failure("disk", *EVALUATION["disk"])),
        (MemoryError(), EVALUATION, Failure("memory", *EVALUATION["memory"])),
        (
            KeyError("surprise"),
            EXPORT,
            Failure("", "It ended with an error: KeyError: 'surprise'", "The log has the details."),
        ),
    ],
)
def test_each_child_has_its_own_hints(error, words, expected):
    assert explain(error, "It", words) == expected
