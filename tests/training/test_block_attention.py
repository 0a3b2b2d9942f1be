"""Attention by blocks gives what PyTorch's attention gives for each sequence alone, with its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from workbench.training import attention, block_attention
from workbench.training.attention import per_sequence_attention
from workbench.training.block_attention import blocks

HEADS, KEY_HEADS, SIZE, VALUE_SIZE = 6, 2, 8, 4
LENGTHS = [20, 1, 128, 129, 300]


def states(dtype=torch.float32, heads=HEADS, key_heads=KEY_HEADS):
    torch.manual_seed(0)
    tokens = sum(LENGTHS)
    sizes = [(heads, SIZE), (key_heads, SIZE), (key_heads, VALUE_SIZE)]
    made = [torch.randn(1, count, tokens, size) for count, size in sizes]
    made[2] += 5  # what all values have in common is none of the gradient of the scores
    return [state.to(dtype).requires_grad_() for state in made]


def by_blocks(query, key, value, shared_start):
    return block_attention.block_attention(query, key, value, LENGTHS, shared_start, 0.3)


def one_by_one(query, key, value, shared_start):
    """Attend as PyTorch does, to each sequence with the shared start before it."""
    found, begin = [], 0
    for length in LENGTHS:
        own = slice(begin, begin + length)
        shared = shared_start if begin else 0
        keys, values = (torch.cat([x[:, :, :shared], x[:, :, own]], dim=2) for x in (key, value))
        mask = torch.ones(length, shared + length, dtype=torch.bool).tril(shared)
        found.append(
            scaled_dot_product_attention(
                query[:, :, own], keys, values, attn_mask=mask, scale=0.3, enable_gqa=True
            )
        )
        begin += length
    return torch.cat(found, dim=2).transpose(1, 2)


def result_and_gradients(attend, shared_start, dtype=torch.float32, **heads):
    leaves = states(dtype, **heads)
    result = attend(*leaves, shared_start)
    weights = torch.linspace(-1, 1, result.numel()).view(result.shape)
    (result.float() * weights).sum().backward()
    return [result, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("kept_keys", [0, 140, 10_000])
@pytest.mark.parametrize("shared_start", [0, 20])
def test_result_and_gradients_are_those_of_one_sequence_after_the_other(
    monkeypatch, shared_start, kept_keys
):
    monkeypatch.setattr(block_attention, "MOST_KEPT_KEYS", kept_keys)
    ours = result_and_gradients(by_blocks, shared_start)
    for found, expected in zip(ours, result_and_gradients(one_by_one, shared_start), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_as_many_key_heads_as_query_heads():
    ours = result_and_gradients(by_blocks, 20, heads=3, key_heads=3)
    expected = result_and_gradients(one_by_one, 20, heads=3, key_heads=3)
    for found, exact in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared_start", [0, 20])
def test_in_bf16_they_differ_by_rounding_only(shared_start):
    exact = result_and_gradients(one_by_one, shared_start)
    ours = result_and_gradients(by_blocks, shared_start, torch.bfloat16)
    for found, expected in zip(ours, exact, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found - expected).norm() < 0.015 * expected.norm()


def test_weights_that_are_worked_out_again_are_the_same(monkeypatch):
    kept = result_and_gradients(by_blocks, 20, torch.bfloat16)
    monkeypatch.setattr(block_attention, "MOST_KEPT_KEYS", 0)
    for found, expected in zip(
        result_and_gradients(by_blocks, 20, torch.bfloat16), kept, strict=True
    ):
        assert torch.equal(found, expected)


def test_a_block_sees_its_own_sequence_and_what_is_shared_and_nothing_later():
    cut = blocks([20, 1, 300], 20)
    assert [(b.first, b.end) for b in cut] == [
        (0, 20),
        (20, 21),
        *((21, 121), (121, 221), (221, 321)),
    ]
    # The keys of the second sequence are the 20 shared ones and its own, and so on.
    assert [(b.keys.start, b.keys.stop) for b in cut] == [
        (0, 20),
        (20, 41),
        *((41, 161), (41, 261), (41, 361)),
    ]
    assert all(b.end - b.first <= block_attention.BLOCK_TOKENS for b in blocks([5_000], 0))


@pytest.mark.parametrize(
    ("dtype", "dropout", "expected"),
    [(torch.bfloat16, 0.0, True), (torch.float32, 0.0, False), (torch.bfloat16, 0.1, False)],
)
def test_it_is_taken_in_bf16_where_nothing_is_dropped(monkeypatch, dtype, dropout, expected):
    taken = []
    usual = attention.block_attention
    monkeypatch.setattr(
        attention, "block_attention", lambda *given: taken.append(given) or usual(*given)
    )
    result, _ = per_sequence_attention(
        None, *states(dtype), None, dropout=dropout, sequence_lengths=LENGTHS
    )
    assert bool(taken) is expected
    assert result.shape == (1, sum(LENGTHS), HEADS, VALUE_SIZE)
    assert result.dtype == dtype
