"""Models for exports, made once, and runs on them."""

from __future__ import annotations

import pytest
import torch

from tests.export.made import build_model, make_run


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A tiny base in fp32: merging it is exact but for the last digits."""
    return build_model(tmp_path_factory.mktemp("fp32-base"))


@pytest.fixture(scope="session")
def bf16_dir(tmp_path_factory):
    """The same in bf16, as most models come: merging rounds."""
    return build_model(tmp_path_factory.mktemp("bf16-base"), torch.bfloat16)


@pytest.fixture
def run(services, alpaca_file, model_dir):
    return make_run(services, alpaca_file, model_dir)
