"""Fixtures for all tests: a workspace of their own, sample rows, and a tiny random model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_model import build_tiny_model
from workbench.services import Services
from workbench.settings import Settings

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# On a CPU that is quick in bf16 everything would be rounded to it; tests of bf16 ask for it by name.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no process of several ends long after the others."""
    items.sort(key=lambda item: "starter" not in item.keywords)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return Settings.from_environment()


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    services = Services.for_workspace(settings)
    yield services
    services.chat.close()
    services.tokenizer.close()
    active = services.supervisor.active_run()
    if active:
        services.supervisor.kill(active)


@pytest.fixture
def alpaca_file(tmp_path: Path) -> Path:
    """40 short rows; enough that some are held back."""
    rows = [
        {"instruction": f"What comes after {n}?", "input": "", "output": f"{n + 1} comes next."}
        for n in range(40)
    ]
    path = tmp_path / "counting.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of 2 layers with a byte-level tokenizer and a chat template."""
    return build_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def lively_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights: what it reads decides what it says.

    It writes all kinds of tokens where the other repeats the last one, and no two are so near that rounding decides.
    """
    return build_tiny_model(tmp_path_factory.mktemp("lively-model"), initializer_range=0.3)
