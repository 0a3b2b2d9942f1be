"""The plan for a graphics card agrees with what the code of a run would hold there; no card is needed."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from tests.simulated_card import simulate
from workbench import this_machine
from workbench.config import build_config
from workbench.hardware import Gpu, look
from workbench.models.catalogue import catalogue


@pytest.mark.parametrize(
    ("shape", "method", "row_tokens", "computed_twice", "liger"),
    [
        ("0.5B", "lora", 512, "off", False),
        ("0.5B", "lora", 128, "1/2", True),
        ("0.5B", "lora", 2048, "on", False),
        ("0.5B", "qlora", 512, "off", True),
        ("0.5B", "full", 128, "off", False),
        ("0.5B", "full", 128, "on", False),
        ("0.5B", "full", 2048, "1/2", True),
        ("0.5B", "freeze", 512, "off", False),
        ("0.5B", "freeze", 2048, "1/2", False),
        ("0.5B", "adalora", 512, "off", False),
        ("7B", "lora", 512, "off", True),
        ("7B", "qlora", 512, "off", False),
        ("7B", "qlora", 2048, "on", True),
    ],
)
def test_the_plan_is_within_a_tenth_of_what_is_counted(
    shape, method, row_tokens, computed_twice, liger
):
    config = build_config({"method": method, "activation_checkpointing": computed_twice})
    counted, plan = simulate(shape, config, row_tokens, liger=liger)
    assert plan.peak_memory_bytes == pytest.approx(counted, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "shared_start"),
    [({}, 60), ({"lora_dropout": 0.1}, 0), ({"lora_rank": 256, "lora_alpha": 256}, 0)],
)
def test_so_it_is_with_what_changes_what_is_kept(settings, shared_start):
    config = build_config({"method": "qlora", "activation_checkpointing": "off"} | settings)
    counted, plan = simulate("0.5B", config, 128, shared_start=shared_start, liger=False)
    assert plan.peak_memory_bytes == pytest.approx(counted, rel=0.1)


def test_what_is_counted_is_what_a_run_would_hold():
    """Weights, gradients and two notes of Adam in fp32 are most of it where the model itself learns."""
    config = build_config(
        {"method": "full", "activation_checkpointing": "on", "keep_general": False}
    )
    counted, _ = simulate("7B", config, 128, liger=False)
    assert counted == pytest.approx(16 * catalogue()["qwen2.5-7b-instruct"].parameters, rel=0.01)


@pytest.mark.parametrize(("gpus", "installed"), [(1, True), (1, False), (0, True)])
def test_liger_is_planned_with_a_card_where_the_package_is(monkeypatch, tmp_path, gpus, installed):
    monkeypatch.setattr(
        this_machine, "find_spec", lambda name: installed and name == "liger_kernel"
    )
    cards = (Gpu("A card", 24 * 10**9, 20 * 10**9, has_bf16=True),) * gpus
    hardware = dataclasses.replace(look(tmp_path), gpus=cards)
    none = SimpleNamespace(all=list, active_run=lambda: None)
    machine = this_machine.machine_for(build_config({}), hardware, none, none)
    assert machine.has_liger == bool(gpus and installed)
