"""A model for which rows in one are not what each is alone is found before it trains."""

from __future__ import annotations

import pytest
import torch
from transformers import DogeConfig, DogeForCausalLM

from tests.tiny_model import build_tiny_model
from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.training import packing
from workbench.training.loading import load_model
from workbench.training.packing import runs_packed

CPU = Compute("cpu", "fp32")


def row(length, seed):
    ids = torch.randint(2, 258, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenizedExample([5, 6, 7, *ids], [IGNORED, *([8] * (length + 2))])


ROWS = [row(90, 1), row(30, 2), row(200, 3)]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], [row(1, 1), row(1, 2)], [ROWS[0]] * 2])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_plain_model_runs_packed(lively_model_dir, rows, precision):
    compute = Compute("cpu", precision)
    model, padded = load_model(lively_model_dir, build_config({}), compute)
    assert not padded
    assert runs_packed(model, compute, rows, pad_id=0)


def test_rows_that_see_each_other_are_found(lively_model_dir, monkeypatch):
    usual = packing.micro_batches

    def one_row(*given, **more):
        for batch in usual(*given, **more):
            if "sequence_lengths" in batch.inputs:
                batch.inputs["sequence_lengths"] = [batch.tokens]
                batch.inputs["shared_start"] = 0
            yield batch

    model, _ = load_model(lively_model_dir, build_config({}), CPU)
    monkeypatch.setattr(packing, "micro_batches", one_row)
    assert not runs_packed(model, CPU, ROWS, pad_id=0)


def test_a_model_that_passes_nothing_on_is_found(lively_model_dir, monkeypatch):
    model, _ = load_model(lively_model_dir, build_config({}), CPU)
    usual = packing.micro_batches

    def without_lengths(*given, **more):
        for batch in usual(*given, **more):
            batch.inputs.pop("sequence_lengths", None)
            yield batch

    monkeypatch.setattr(packing, "micro_batches", without_lengths)
    assert not runs_packed(model, CPU, ROWS, pad_id=0)


def test_a_model_that_passes_a_mask_of_its_own_along_is_found(tmp_path):
    directory = build_tiny_model(tmp_path / "base")
    config = DogeConfig(
        vocab_size=258, hidden_size=64, intermediate_size=128, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, keep_window_size=8, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    DogeForCausalLM(config).save_pretrained(directory)
    model, padded = load_model(directory, build_config({"method": "full"}), CPU)
    assert not padded  # its settings say nothing of it
    assert not runs_packed(model, CPU, ROWS, pad_id=0)
