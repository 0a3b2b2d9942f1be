"""A compiled model learns the same: its loss and its gradients are those of the usual one."""

from __future__ import annotations

import pytest
import torch

from tests.training.trainable import make_ready
from workbench.compatibility import missing_to_compile
from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.training.batches import micro_batches
from workbench.training.compiling import compile_layers
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss
from workbench.training.recomputing import recompute_layers

CPU = Compute("cpu", "fp32")
missing = missing_to_compile()
needs_compiler = pytest.mark.skipif(bool(missing), reason=f"compiling needs {missing}")


def example(length):
    ids = list(range(3, 3 + length))
    return TokenizedExample(ids, [IGNORED, IGNORED, *ids[2:]])


def learn(model_dir, method, *, compiled):
    """Return losses and gradients of three micro-batches of different length and number of rows."""
    config = build_config({"method": method, "lora_rank": 4, "compile": compiled})
    torch.manual_seed(0)
    base, padded = load_model(model_dir, config, CPU)
    model = make_ready(base, config)
    recompute_layers(model, 0.5)
    if compiled:
        assert compile_layers(model) == 6  # two norms and a feed-forward part in each of two layers
    loss = AnswerLoss(model, CPU)
    model.train()
    costs = []
    for lengths in ([5, 9], [20], [4, 7, 30]):
        rows = [example(length) for length in lengths]
        (batch,) = micro_batches(rows, 1000, padded=padded, pad_id=0)
        cost = loss.cost(batch).loss
        cost.backward()
        costs.append(cost.item())
    return costs, {name: w.grad for name, w in model.named_parameters() if w.grad is not None}


@needs_compiler
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_loss_and_gradients_are_those_of_the_usual_model(tiny_model_dir, method):
    from torch._dynamo.utils import counters

    usual_costs, usual = learn(tiny_model_dir, method, compiled=False)
    torch._dynamo.reset()
    counters.clear()
    costs, gradients = learn(tiny_model_dir, method, compiled=True)
    assert costs == pytest.approx(usual_costs, rel=1e-6)
    assert gradients.keys() == usual.keys()
    for name, expected in usual.items():
        assert (gradients[name] - expected).norm() <= 1e-5 * expected.norm(), name
    # A norm and a feed-forward part, one of each for all layers and lengths; the first layer of LoRA gets an input
    # that needs no gradient.
    assert 2 <= counters["stats"]["unique_graphs"] <= 3


@needs_compiler
def test_only_training_is_compiled(tiny_model_dir):
    base, _ = load_model(tiny_model_dir, build_config({"method": "full"}), CPU)
    compile_layers(base)
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
        base.eval()(torch.tensor([[3, 4]]), sequence_lengths=[2])
        with pytest.raises(RuntimeError, match="recompile"):
            base.train()(torch.tensor([[3, 4]]), sequence_lengths=[2])


def test_a_model_without_such_parts_says_so(tmp_path):
    assert compile_layers(torch.nn.Sequential(torch.nn.Linear(2, 2))) == 0
