"""A share of the layers is computed twice: exactly that share, and the gradient stays the same."""

from __future__ import annotations

import pytest
import torch

from tests.tiny_model import build_tiny_model
from tests.training.trainable import make_ready
from workbench.compute import Compute
from workbench.config import RECOMPUTED_SHARES, build_config
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.training.batches import micro_batches
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss
from workbench.training.recomputing import recompute_layers

CPU = Compute("cpu", "fp32")
EXAMPLES = [
    TokenizedExample([5, 6, 7, 8, 9], [IGNORED, IGNORED, 7, 8, 9]),
    TokenizedExample([5, 6, 4, 3], [IGNORED, IGNORED, 4, 3]),
]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("five-layers"), num_hidden_layers=5)


def gradients_and_passes(model_dir, method, share):
    """Return all gradients of one step, and how often each layer was computed for them."""
    config = build_config({"method": method, "lora_rank": 4, "trained_layers": 2})
    torch.manual_seed(0)
    base, padded = load_model(model_dir, config, CPU)
    model = make_ready(base, config)
    if share:
        recompute_layers(model, share)
    passes = [0] * 5

    def count(number):
        def hook(*_):
            passes[number] += 1

        return hook

    for number, layer in enumerate(base.model.layers):
        layer.self_attn.register_forward_pre_hook(count(number))
    model.train()
    (batch,) = micro_batches(EXAMPLES, 1000, padded=padded, pad_id=0)
    AnswerLoss(model, CPU).cost(batch).loss.backward()
    found = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
    return found, passes


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize(
    ("choice", "expected_passes"),
    [
        ("1/4", [2, 2, 1, 1, 1]),  # a part of a layer counts as one
        ("1/2", [2, 2, 2, 1, 1]),
        ("3/4", [2, 2, 2, 2, 1]),
        ("on", [2, 2, 2, 2, 2]),
    ],
)
def test_the_first_layers_are_computed_twice_and_the_gradient_is_the_same(
    model_dir, method, choice, expected_passes
):
    expected, once = gradients_and_passes(model_dir, method, 0.0)
    assert once == [1, 1, 1, 1, 1]
    found, passes = gradients_and_passes(model_dir, method, RECOMPUTED_SHARES[choice])
    assert passes == expected_passes
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


def test_layers_below_all_that_learns_are_computed_once_and_keep_nothing(model_dir):
    usual, _ = gradients_and_passes(model_dir, "freeze", 0)
    gradients, passes = gradients_and_passes(model_dir, "freeze", 1.0)
    assert passes == [1, 1, 1, 2, 2]
    assert gradients.keys() == usual.keys()
    for name, expected in usual.items():
        torch.testing.assert_close(gradients[name], expected)
