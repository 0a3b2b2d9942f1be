"""Token ids to text, with the tiny tokenizer: every byte is a token."""

from __future__ import annotations

import pytest

from tests.tiny_model import build_tiny_tokenizer
from workbench.inference.text import TextPieces


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiny_tokenizer()


def written(tokenizer, text, stop=()):
    """Return the pieces that were shown, and whether a stop sequence ended them."""
    pieces = TextPieces(tokenizer, stop)
    shown = []
    for token in tokenizer(text)["input_ids"]:
        shown.append(pieces.add(token))
        if pieces.is_stopped:
            break
    shown.append(pieces.end())
    return [piece for piece in shown if piece], pieces.is_stopped


def test_a_character_of_several_tokens_comes_whole(tokenizer):
    assert written(tokenizer, "aé猫🙂b") == (["a", "é", "猫", "🙂", "b"], False)


def test_half_a_character_at_the_end_is_told(tokenizer):
    pieces = TextPieces(tokenizer)
    first, _ = tokenizer("é")["input_ids"]
    assert pieces.add(first) == ""
    assert pieces.end() == "\ufffd"


def test_special_tokens_are_not_shown(tokenizer):
    assert written(tokenizer, "a<|im_end|>b")[0] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "stop", "shown", "is_stopped"),
    [
        ("one. two", ["."], "one", True),
        ("one\n\ntwo", ["\n\n"], "one", True),
        ("one\ntwo", ["\n\n"], "one\ntwo", False),  # only looked like one
        ("one\n", ["\n\n"], "one\n", False),  # held back to the end
        ("aab", ["ab"], "a", True),
        ("a STOP b END", ["END", "STOP"], "a ", True),
        ("abc", ["", "b"], "a", True),
        ("abc", [], "abc", False),
    ],
)
def test_stop_sequences(tokenizer, text, stop, shown, is_stopped):
    pieces, stopped = written(tokenizer, text, stop)
    assert ("".join(pieces), stopped) == (shown, is_stopped)
