"""Real processes, really killed."""

from __future__ import annotations

import json

import psutil
import pytest

from tests.training.survival import create, curve, rows, survive, wait_until_it_ends

pytestmark = pytest.mark.timeout(400)


def test_a_run_that_is_killed_again_and_again_is_the_run_that_was_not(
    services, tiny_model_dir, tmp_path
):
    data = tmp_path / "counting.json"
    data.write_text(json.dumps(rows()))
    calm, killed = (create(services, data, tiny_model_dir) for _ in range(2))
    services.supervisor.start(calm)
    assert wait_until_it_ends(services, calm).state == "finished"
    survive(services, killed, kills=3, seed=7)
    assert curve(killed) == curve(calm)
    left = [p.cmdline() for p in psutil.process_iter() if str(killed.directory) in _arguments(p)]
    assert left == []


def _arguments(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []
