"""The number format is measured, not assumed."""

from __future__ import annotations

import pytest
import torch

from workbench import compute
from workbench.compute import CLEARLY_FASTER, choose_compute


@pytest.mark.parametrize(
    ("gain", "precision"), [(0.3, "fp32"), (1.0, "fp32"), (CLEARLY_FASTER + 0.1, "bf16")]
)
def test_a_processor_computes_in_what_is_clearly_faster(monkeypatch, gain, precision):
    times = {torch.float32: gain, torch.bfloat16: 1.0}
    monkeypatch.setattr(compute, "_matmul_seconds", lambda *dtypes: times)
    assert choose_compute("auto").precision == precision
    for chosen in ("fp32", "bf16"):
        assert choose_compute(chosen).precision == chosen


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_a_card_computes_in_what_its_hardware_has(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    chosen = choose_compute("auto")
    assert (chosen.device, chosen.precision) == ("cuda", precision)


def test_both_formats_are_timed():
    seconds = compute._matmul_seconds(torch.float32, torch.bfloat16)
    assert all(0 < taken < 60 for taken in seconds.values())
    assert seconds.keys() == {torch.float32, torch.bfloat16}
