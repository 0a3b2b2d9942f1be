"""Real processes, really killed."""

from __future__ import annotations

import json

import pytest

from tests.training.survival import create, curve, rows, survive, wait_until_it_ends

pytestmark = pytest.mark.timeout(400)


def test_a_run_is_the_same_whoever_was_killed_meanwhile(services, tiny_model_dir, tmp_path):
    data = tmp_path / "counting.json"
    data.write_text(json.dumps(rows()))
    calm, killed = (create(services, data, tiny_model_dir) for _ in range(2))
    services.supervisor.start(calm)
    assert wait_until_it_ends(services, calm).state == "finished"
    kills = [("trainer", "loading"), ("server", "training"), ("both", "training")]
    assert len(survive(services, killed, kills, seed=7)) == len(kills)
    assert curve(killed) == curve(calm)
