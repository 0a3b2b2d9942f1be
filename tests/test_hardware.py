from __future__ import annotations

import pytest

from workbench.hardware import gpu_use, look


@pytest.fixture
def answer_of_nvidia(tmp_path, monkeypatch):
    """Put a program in front that answers as the driver's does."""

    def put(answer):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


@pytest.mark.parametrize(("answer", "share"), [("87", 0.87), ("0", 0.0), ("[N/A]", None)])
def test_the_driver_says_how_busy_a_card_is(answer_of_nvidia, answer, share):
    answer_of_nvidia(answer)
    assert gpu_use("GPU-1") == share


def test_a_card_is_found_by_what_the_driver_says(answer_of_nvidia, tmp_path):
    answer_of_nvidia("NVIDIA A, with a comma, 24576, 20480")
    (gpu,) = look(tmp_path).gpus
    assert (gpu.name, gpu.total_bytes) == ("NVIDIA A, with a comma", 24 * 2**30)


def test_without_a_driver_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_use("GPU-1") is None
    assert look(tmp_path).gpus == ()
