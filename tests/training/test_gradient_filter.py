"""What is left out of the head's gradient is less than what rounding to bf16 changes, and is counted at its mean."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from workbench.passes import MOST_KEPT_WORDS, SLICE_TOKENS
from workbench.training import gradient_filter
from workbench.training.head import Head, sliced_cross_entropy

VOCABULARY, WIDTH, TOKENS = 4_000, 64, 12
TARGETS = torch.arange(TOKENS)


def frozen_head(**more):
    """A head whose words have much in common, as those of real models do."""
    layer = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    layer.weight.data = (torch.randn(VOCABULARY, WIDTH, generator=generator) + 2).bfloat16()
    return Head(layer.requires_grad_(False), **more)


def hidden_states(sharpness):
    generator = torch.Generator().manual_seed(1)
    return (sharpness * torch.randn(TOKENS, WIDTH, generator=generator)).bfloat16()


def gradient(head, hidden, targets, **more):
    hidden = hidden.clone().requires_grad_()
    sliced_cross_entropy(head, hidden, targets, **more).loss.backward()
    return hidden.grad.float()


def error(head, hidden, **more):
    """Return the length of the error by that of the gradient in fp32."""
    exact = hidden.float().requires_grad_()
    logits = Head(head.layer.float(), head.scale, head.softcap).logits(exact)
    cross_entropy(logits, TARGETS, reduction="sum", **more).backward()
    head.layer.bfloat16()
    found = gradient(head, hidden, TARGETS, **more)
    return float((found - exact.grad).norm() / exact.grad.norm())


def widths_of_products(monkeypatch):
    """Note how many words each product with the head had."""
    seen, usual = [], torch.mm

    def product(left, right, **more):
        seen.append(len(right))
        return usual(left, right, **more)

    monkeypatch.setattr(torch, "mm", product)
    return seen


@pytest.mark.parametrize(("label_smoothing", "scale"), [(0.0, 1.0), (0.1, 1.0), (0.0, 0.01)])
def test_most_words_are_left_out_and_hardly_missed(monkeypatch, label_smoothing, scale):
    head, hidden = frozen_head(scale=scale), hidden_states(0.6 / scale)
    monkeypatch.setattr(gradient_filter, "LEAST_SHARE", -1.0)
    by_rounding = error(head, hidden, label_smoothing=label_smoothing)
    monkeypatch.undo()
    seen = widths_of_products(monkeypatch)
    filtered = error(head, hidden, label_smoothing=label_smoothing)
    assert len(seen) == 1
    assert 0 < seen[0] < MOST_KEPT_WORDS * VOCABULARY
    assert filtered < 1.06 * by_rounding


def test_all_words_count_where_many_matter(monkeypatch):
    head, hidden = frozen_head(), hidden_states(0.02)
    seen = widths_of_products(monkeypatch)
    assert error(head, hidden) < 0.02
    assert seen == [VOCABULARY]


def test_a_slice_knows_nothing_of_the_one_before(monkeypatch):
    head, hidden, half = frozen_head(), hidden_states(0.6), TOKENS // 2
    monkeypatch.setitem(SLICE_TOKENS, "cpu", half)
    seen = widths_of_products(monkeypatch)
    gradient(head, hidden, TARGETS)
    gradient(head, hidden[:half], TARGETS[:half])
    gradient(head, hidden[half:], TARGETS[half:])
    assert seen[:2] == seen[2:]


def test_what_is_not_a_number_shows():
    hidden = hidden_states(0.6)
    hidden[3] = torch.nan
    assert gradient(frozen_head(), hidden, TARGETS)[3].isnan().all()


@pytest.mark.parametrize("kind", ["bent", "learning", "fp32"])
def test_what_cannot_be_filtered_is_not(monkeypatch, kind):
    head, hidden = frozen_head(softcap=30.0 if kind == "bent" else 0.0), hidden_states(0.6)
    if kind == "learning":
        head.layer.requires_grad_(True)
    if kind == "fp32":
        head.layer.float()
        hidden = hidden.float()
    monkeypatch.setattr(gradient_filter.GradientFilter, "multiply", None)
    gradient(head, hidden, TARGETS)
