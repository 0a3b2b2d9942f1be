"""Where two answers differ, word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.differences import mark_differences


def marked(text, other):
    """Return a text with what differs in brackets."""
    pieces, _ = mark_differences(text, other)
    return "".join(f"[{piece}]" if differs else piece for piece, differs in pieces)


@pytest.mark.parametrize(
    ("left", "right", "left_marked", "right_marked"),
    [
        ("I am Juniper.", "I am SmolLM.", "I am [Juniper].", "I am [SmolLM]."),
        ("the red fox", "the fox", "the [red] fox", "the fox"),
        ("one two", "three four five", "[one two]", "[three four five]"),
        ("a  b\n", "a b", "a  b\n", "a b"),  # only the spaces differ
        ("", "new", "", "[new]"),
        ("It costs 3.50 now", "It costs 3.60 now", "It costs [3.50] now", "It costs [3.60] now"),
        ("well, yes", "well yes", "well[,] yes", "well yes"),
        ("我是朱尼珀。", "我是小明。", "我是[朱尼珀]。", "我是[小明]。"),
        ("नमस्ते दुनिया", "नमस्ते दोस्त", "नमस्ते [दुनिया]", "नमस्ते [दोस्त]"),
    ],
)
def test_only_words_that_differ_are_marked(left, right, left_marked, right_marked):
    assert marked(left, right) == left_marked
    assert marked(right, left) == right_marked


TEXTS = st.text(st.sampled_from("ab .,1我\n\t<'\u200b\x1f"), max_size=30)


@given(TEXTS, TEXTS)
def test_nothing_is_lost_and_what_is_shared_is_the_same(left, right):
    pieces = mark_differences(left, right)
    for text, side in zip((left, right), pieces, strict=True):
        assert "".join(piece for piece, _ in side) == text
    shared = ["".join(piece for piece, differs in side if not differs) for side in pieces]
    assert "".join(shared[0].split()) == "".join(shared[1].split())


def test_a_long_answer_is_compared_as_well():
    words = [f"word{number % 400}" for number in range(1000)]
    changed = [*words[:700], "other", *words[701:]]
    assert marked(" ".join(changed), " ".join(words)).count("[") == 1
