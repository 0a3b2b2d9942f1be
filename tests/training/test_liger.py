"""Liger kernels are used where they are installed and know the model; their loss never is."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from workbench.training import liger

LLAMA = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
OTHER = SimpleNamespace(config=SimpleNamespace(model_type="mystery"))


@pytest.fixture
def applied(monkeypatch):
    """Pretend the package is installed; return what it was asked to change."""
    calls = []
    package, kernels, patches = (
        ModuleType(f"liger_kernel{name}")
        for name in ("", ".transformers", ".transformers.monkey_patch")
    )
    kernels._apply_liger_kernel_to_instance = lambda model, **kinds: calls.append((model, kinds))
    patches.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}
    for module in (package, kernels, patches):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(liger, "version", lambda name: "0.8.5")
    return calls


def test_a_model_it_knows_gets_all_but_the_loss(applied):
    assert liger.use_liger_kernels(LLAMA) == "liger-kernel 0.8.5"
    ((model, kinds),) = applied
    assert model is LLAMA
    assert kinds == {"cross_entropy": False, "fused_linear_cross_entropy": False}


def test_another_model_stays_as_it_is(applied):
    assert liger.use_liger_kernels(OTHER) == ""
    assert applied == []


def test_without_the_package_nothing_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    assert liger.use_liger_kernels(LLAMA) == ""
