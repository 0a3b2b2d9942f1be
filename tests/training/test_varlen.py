"""The graphics card's attention is told the right bounds, and is not used where it is wrong.

A fake does here what the kernel does there, one sequence after the other; tests marked ``gpu`` call the kernel.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.training import loading, varlen
from workbench.training.attention import per_sequence_attention
from workbench.training.batches import micro_batches
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss

BF16 = Compute("cpu", "bf16")
SIZES = SimpleNamespace(num_attention_heads=4, num_key_value_heads=2, hidden_size=64)
SIZES.get_text_config = lambda: SIZES
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def fake_kernel(q, k, v, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa, ahead=0):
    """Attend as ``varlen_attn`` does, whose signature it has; strict where the kernel is.

    Args:
        ahead: How many tokens more than it should a query sees; for a kernel that is wrong.
    """
    assert window_size == (-1, 0)
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert q.dtype == k.dtype == v.dtype == torch.bfloat16
    assert (cu_q[-1], cu_k[-1]) == (len(q), len(k)) == (len(q), len(v))
    assert (max_q, max_k) == (cu_q.diff().max(), cu_k.diff().max())
    assert enable_gqa == (q.shape[1] != k.shape[1])
    attended = []
    for sequence in range(len(cu_q) - 1):
        of_q, of_k = (slice(cu[sequence], cu[sequence + 1]) for cu in (cu_q, cu_k))
        queries, keys, values = (x.float().transpose(0, 1) for x in (q[of_q], k[of_k], v[of_k]))
        hidden = keys.shape[1] - queries.shape[1]  # the last query sees all keys
        mask = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril(hidden + ahead)
        result = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scale, enable_gqa=enable_gqa
        )
        attended.append(result.transpose(0, 1).to(q.dtype))
    return torch.cat(attended)


def test_bounds_without_a_shared_start_are_those_of_the_row():
    bounds = varlen.bounds_of((3, 1, 4), 0, torch.device("cpu"))
    assert bounds.queries.tolist() == bounds.keys.tolist() == [0, 3, 4, 8]
    assert bounds.key_places is None
    assert (bounds.most_queries, bounds.most_keys) == (4, 4)


def test_keys_of_a_shared_start_stand_before_those_of_every_sequence():
    bounds = varlen.bounds_of((2, 1, 3), 2, torch.device("cpu"))
    assert bounds.queries.tolist() == [0, 2, 3, 6]
    assert bounds.keys.tolist() == [0, 2, 5, 10]
    assert bounds.key_places.tolist() == [0, 1, *(0, 1, 2), *(0, 1, 3, 4, 5)]
    assert (bounds.most_queries, bounds.most_keys) == (3, 5)


@pytest.mark.parametrize("shared_start", [0, 4])
def test_result_and_gradients_are_those_of_one_sequence_after_the_other(shared_start):
    attend = functools.partial(varlen.varlen_attention, kernel=fake_kernel)
    assert_same(attend, "cpu", [4, 1, 9], shared_start)


def assert_same(attend, device, lengths, shared_start):
    torch.manual_seed(0)
    shapes = [(1, heads, sum(lengths), 16) for heads in (4, 2, 2)]
    states = [torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in shapes]
    found = []
    for function in (attend, per_sequence_attention):
        leaves = [state.clone().requires_grad_() for state in states]
        result, _ = function(
            None, *leaves, None, 0.3, sequence_lengths=lengths, shared_start=shared_start
        )
        result.float().square().sum().backward()
        found.append([result, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_a_model_learns_the_same_with_it(tiny_model_dir):
    ids = [[5, 6, 7, 8, 9], [5, 6, 7, 20, 21, 22, 23], [5, 6, 7, 30]]
    rows = [TokenizedExample(row, [*[IGNORED] * 3, *row[3:]]) for row in ids]
    (batch,) = micro_batches(rows, 100, padded=False, pad_id=0)
    assert batch.inputs["shared_start"] > 0
    varlen.register(fake_kernel)
    found = []
    for name in ("", varlen.NAME):
        model, _ = load_model(tiny_model_dir, build_config({"method": "full"}), BF16)
        if name:
            model.set_attn_implementation(name)
        cost = AnswerLoss(model, BF16).cost(batch)
        cost.loss.backward()
        found.append((cost.loss, {n: w.grad for n, w in model.named_parameters()}))
    (loss, gradients), (other_loss, others) = found
    torch.testing.assert_close(loss, other_loss, rtol=1e-2, atol=0)
    for name, gradient in gradients.items():
        assert (gradient - others[name]).norm() <= 0.05 * gradient.norm(), name


def not_here(*args, **kwargs):
    raise RuntimeError("no kernel image is available\nfor this device")


def no_numbers(*args, **kwargs):
    return fake_kernel(*args, **kwargs) * float("nan")


def no_gradient(q, k, v, *args, **kwargs):
    return fake_kernel(q, k.detach(), v, *args, **kwargs)


@pytest.mark.parametrize(
    ("kernel", "reason"),
    [
        (fake_kernel, ""),
        (not_here, "does not work here (no kernel image is available)"),
        (no_numbers, "does not give the right result here"),
        (no_gradient, "does not work here ("),
    ],
)
def test_the_kernel_is_tried_before_it_is_used(kernel, reason):
    found = varlen.why_not(BF16, SIZES, kernel)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


@pytest.mark.parametrize("ahead", [-1, 1, 70])
def test_a_kernel_that_hides_or_shows_too_much_is_not_used(ahead):
    wrong = functools.partial(fake_kernel, ahead=ahead)
    assert "right result" in varlen.why_not(BF16, SIZES, wrong)


def test_it_is_used_in_bf16_on_new_cards_only(monkeypatch):
    assert "bf16 only" in varlen.why_not(Compute("cpu", "fp32"), SIZES, fake_kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert "newer" in varlen.why_not(Compute("cuda", "bf16"), SIZES, not_here)


@pytest.mark.parametrize("reason", ["", "needs a newer one"])
def test_a_card_without_it_pads_and_says_why(monkeypatch, tiny_model_dir, reason):
    monkeypatch.setattr(varlen, "why_not", lambda compute, architecture: reason)
    monkeypatch.setattr(loading, "_weight_dtype", lambda method, compute: torch.float32)
    on_card = Compute("cuda", "bf16")
    monkeypatch.setattr(
        loading.AutoModelForCausalLM,
        "from_pretrained",
        lambda path, attn_implementation, **_: SimpleNamespace(
            config=SimpleNamespace(), name=attn_implementation, modules=list
        ),
    )
    told = []
    model, padded = load_model(tiny_model_dir, build_config({}), on_card, told.append)
    if reason:
        assert (model.name, padded) == ("sdpa", True)
        assert told[0].endswith("rows of different length needs a newer one.")
    else:
        assert (model.name, padded, told) == (varlen.NAME, False, [])


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("shared_start", [0, 70])
def test_the_kernel_itself_gives_the_same(shared_start):
    assert varlen.why_not(Compute("cuda", "bf16"), SIZES) == ""
    assert_same(varlen.varlen_attention, "cuda", varlen.PROBE_LENGTHS, shared_start)
