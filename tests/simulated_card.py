"""What training would hold on a graphics card, found without one.

Tensors with a shape and no numbers (PyTorch's ``FakeTensorMode``) go through the code of a run: method, layers, loss and
optimizer, as on a card that computes in bf16. What is alive at once is what ``torch.cuda.max_memory_allocated`` counts, but
for what kernels take within themselves: with shapes only, 7 billion weights are no more than 135 million.

    python -m tests.simulated_card
"""

from __future__ import annotations

import argparse
import functools
import itertools
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import bitsandbytes.functional
import numpy as np
import torch
from bitsandbytes.nn import Linear4bit
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

from tests.benchmarks.chosen_model import SHAPES
from workbench import passes
from workbench.compute import Compute
from workbench.config import TrainingConfig, build_config
from workbench.facts import DataFacts, Machine
from workbench.models.catalogue import catalogue
from workbench.models.facts import ModelFacts
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.plan import Plan, make_plan
from workbench.presets import methods
from workbench.settling import GENERAL_TOKENS
from workbench.training import head, varlen
from workbench.training.base_answers import LIKELIEST, BaseAnswer
from workbench.training.batches import MicroBatch, micro_batches, supervised_tokens
from workbench.training.fused_lora import fuse_lora
from workbench.training.general import GeneralSkills
from workbench.training.head import Head, sliced_cross_entropy
from workbench.training.loss import AnswerLoss
from workbench.training.methods import make_trainable
from workbench.training.recomputing import recompute_layers

STEPS = 2  # in the first one the optimizer has no notes yet
ALLOCATED_BYTES = 512  # a card's allocator rounds up to so many
QUESTION_SHARE = 0.3
ROWS = 1_000


class AliveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most there were."""

    def __init__(self, *models: torch.nn.Module) -> None:
        super().__init__()
        self.peak_bytes = self._bytes = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        for model in models:
            for tensor in _weights(model):
                self._note(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor)
        return result

    def _note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known:
            return
        size = -(-storage.nbytes() // ALLOCATED_BYTES) * ALLOCATED_BYTES
        gone = functools.partial(self._forget, address, size)
        self._known[address] = weakref.ref(storage, gone)
        self._bytes += size
        self.peak_bytes = max(self.peak_bytes, self._bytes)

    def _forget(self, address: int, size: int, _: Any) -> None:
        del self._known[address]
        self._bytes -= size


def _weights(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from itertools.chain(model.parameters(), model.buffers())
    for module in model.modules():
        if state := getattr(module, "quant_state", None):
            yield from (state.absmax, state.code, state.state2.absmax, state.state2.code)


@contextmanager
def simulated_card() -> Iterator[FakeTensorMode]:
    """Let tensors have no numbers, and the code of a run behave as on a card, within the block."""
    quantization = {"dynamic": bitsandbytes.functional.create_dynamic_map()}
    is_enabled = torch.is_autocast_enabled
    on_cpu_as_on_card = [
        # PEFT asks about the card's autocast by not saying which.
        mock.patch("torch.is_autocast_enabled", lambda *device: is_enabled(*(device or ("cpu",)))),
        # Tensors are where they belong, and one without numbers cannot be exchanged for another.
        mock.patch.object(torch.nn.Module, "to", lambda module, *to, **how: module),
        mock.patch.object(head, "_can_filter", return_value=False),
        mock.patch(
            "torch.nn.functional.dropout", lambda x, p, *how: torch.native_dropout(x, p, True)[0]
        ),
        mock.patch.dict(bitsandbytes.functional.name2qmap, quantization),
        *(
            mock.patch.dict(sizes, cpu=sizes["cuda"])
            for sizes in (passes.SLICE_TOKENS, passes.PIECE_NUMBERS)
        ),
    ]
    varlen.register()
    varlen.bounds_of.cache_clear()
    with ExitStack() as stack:
        stack.callback(varlen.bounds_of.cache_clear)
        for patch in on_cpu_as_on_card:
            stack.enter_context(patch)
        yield stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))


def simulate(
    shape: str, config: TrainingConfig, row_tokens: int, *, shared_start: int = 0, liger: bool
) -> tuple[int, Plan]:
    """Return the most bytes that two steps of rows of one length hold, and the plan for them.

    Args:
        shape: One of ``SHAPES``.
        config: The settings; LoRA, QLoRA, full tuning, or freeze.
        row_tokens: Of each row.
        shared_start: Tokens that all rows begin with.
        liger: Whether the card computes with Liger kernels.
    """
    plan = _plan(shape, config, row_tokens, shared_start, liger=liger)
    config = plan.config
    assert config.batch_size is not None
    own = _examples(config.batch_size, row_tokens, shared_start)
    general = _examples(config.general_rows_per_step(ROWS), GENERAL_TOKENS, 0)
    skills = GeneralSkills(general, [_base_answer(example) for example in general], seed=0)
    # Which tokens are supervised, a mask's numbers would say; so it is worked out while there are numbers.
    batches, general_batches = (
        [
            replace(batch, supervised=batch.supervised[0].nonzero()[:, 0])
            for batch in micro_batches(examples, config.token_budget, padded=False, pad_id=0)
        ]
        for examples in (own, general)
    )
    with simulated_card():
        model = _make_model(shape, config, liger=liger)
        loss = AnswerLoss(model, Compute("cpu", "bf16"), Head.of(model))
        optimizer = torch.optim.AdamW(
            [w for w in model.parameters() if w.requires_grad], fused=True
        )
        with AliveTensors(model) as alive:
            for _ in range(STEPS):
                for batch in batches:
                    _learn(loss, batch, supervised_tokens(own))
                for batch in general_batches:
                    _hold(loss, batch, skills)
                optimizer.step()
                optimizer.zero_grad()
        return alive.peak_bytes, plan


def _examples(count: int, row_tokens: int, shared_start: int) -> list[TokenizedExample]:
    """Return examples of which no two go on alike after their shared start."""
    asked = max(shared_start + 1, round(QUESTION_SHARE * row_tokens))
    after = [*range(shared_start + 1, row_tokens)]
    return [
        TokenizedExample(
            [0] * shared_start + [number] + after, [IGNORED] * asked + [*range(asked, row_tokens)]
        )
        for number in range(count)
    ]


def _base_answer(example: TokenizedExample) -> BaseAnswer:
    listed = (example.supervised_tokens, LIKELIEST)
    return BaseAnswer(torch.zeros(listed), torch.zeros(listed, dtype=torch.int32))


def _plan(
    shape: str, config: TrainingConfig, row_tokens: int, shared_start: int, *, liger: bool
) -> Plan:
    entry = catalogue()[SHAPES[shape]]
    (example,) = _examples(1, row_tokens, shared_start)
    data = DataFacts(
        ROWS,
        0.0,
        token_lengths=np.full(ROWS, row_tokens),
        supervised_lengths=np.full(ROWS, example.supervised_tokens),
        shared_start=shared_start,
    )
    card = Machine(8, device="cuda", precision="bf16", has_liger=liger)
    model = ModelFacts(entry.parameters, entry.architecture)
    return make_plan(config, [data], model, methods()[config.method], card)


def _make_model(shape: str, config: TrainingConfig, *, liger: bool) -> Any:
    """Return a model that is ready to learn, in training mode, as ``load_model`` and ``assemble`` make it."""
    method = methods()[config.method]
    architecture = AutoConfig.for_model(**catalogue()[SHAPES[shape]].architecture)
    model = AutoModelForCausalLM.from_config(
        architecture,
        attn_implementation=varlen.NAME,
        dtype=torch.bfloat16 if method.saves == "adapter" else torch.float32,
    )
    model.config.use_cache = False
    if liger:
        _compute_as_liger(model)
    if method.base == "nf4":
        _squeeze(model)
    model = make_trainable(model, config, total_steps=STEPS)
    fuse_lora(model)
    if config.recomputed_share:
        recompute_layers(model, config.recomputed_share)
    return model.train()


def _squeeze(model: torch.nn.Module) -> None:
    """Let the linear layers have 4 bits, as bitsandbytes makes them; its own way wants numbers."""
    model.is_loaded_in_4bit = True  # so PEFT takes its layer for them
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is torch.nn.Linear and name != "lm_head":
                setattr(parent, name, _squeezed(layer))


def _squeezed(layer: torch.nn.Linear) -> Linear4bit:
    made = Linear4bit.__new__(Linear4bit)
    torch.nn.Module.__init__(made)
    made.in_features, made.out_features, made.bias = (
        layer.in_features,
        layer.out_features,
        layer.bias,
    )
    made.compute_dtype, made.compute_type_is_set = torch.bfloat16, True
    made.quant_storage, made.support_avx512bf16_for_cpu = torch.uint8, False
    packed, state = bitsandbytes.functional.quantize_4bit(
        layer.weight.data, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    made.weight = torch.nn.Parameter(packed, requires_grad=False)
    made.weight.quant_state = made.quant_state = state
    made.weight.compress_statistics, made.weight.quant_type = True, "nf4"
    return made


def _compute_as_liger(model: torch.nn.Module) -> None:
    """Keep for the backward pass what Liger kernels keep (0.8.5: ``ops/rms_norm.py``, ``ops/swiglu.py``)."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = lambda hidden, norm=module: _LigerNorm.apply(hidden, norm.weight)
        if type(module).__name__.endswith("MLP"):
            module.forward = lambda hidden, mlp=module: mlp.down_proj(
                _LigerGate.apply(mlp.gate_proj(hidden), mlp.up_proj(hidden))
            )


class _LigerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(hidden, weight, hidden.new_empty(hidden.shape[:-1]).float())
        return torch.empty_like(hidden)

    @staticmethod
    def backward(ctx: Any, of_result: torch.Tensor) -> tuple[Any, ...]:
        _, weight, _ = ctx.saved_tensors
        return of_result, torch.empty_like(weight) if ctx.needs_input_grad[1] else None


class _LigerGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return torch.empty_like(gate)

    @staticmethod
    def backward(ctx: Any, of_result: torch.Tensor) -> tuple[Any, ...]:
        return ctx.saved_tensors  # it writes the gradients over them


def _learn(loss: AnswerLoss, batch: MicroBatch, supervised: int) -> None:
    """Add the gradient of a micro-batch, as the trainer does."""
    assert loss.head is not None
    (hidden,) = loss._hidden(loss.head, batch)
    cost = sliced_cross_entropy(loss.head, hidden, batch.targets)
    (cost.loss / supervised).backward()


def _hold(loss: AnswerLoss, batch: MicroBatch, skills: GeneralSkills) -> None:
    """Add the gradient of general examples, as the trainer does."""
    skills.summed_divergence(loss.logits(batch)[0], batch).backward()


def main() -> None:
    """Print the table: the plan for a card beside what is counted."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| shape | method | tokens a row | computed twice | Liger | planned | counted | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for shape, method, tokens, share, liger in itertools.product(
        SHAPES, ("lora", "qlora", "full"), (128, 512, 2048), ("off", "1/2", "on"), (False, True)
    ):
        values = {"method": method, "activation_checkpointing": share}
        counted, plan = simulate(shape, build_config(values), tokens, liger=liger)
        assert plan.peak_memory_bytes is not None
        planned = plan.peak_memory_bytes
        print(
            f"| {shape} | {method} | {tokens} | {share} | {'yes' if liger else 'no'} | {planned / 1e9:.1f} GB "
            f"| {counted / 1e9:.1f} GB | {planned / counted:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
