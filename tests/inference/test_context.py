"""What is left out of a conversation that is too long; a word is a token here."""

from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.inference.context import fit_conversation, fit_text

SYSTEM = {"role": "system", "content": "be kind"}


def conversation(*contents, system=False):
    roles = ("user", "assistant")
    turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)]
    return [SYSTEM, *turns] if system else turns


def to_ids(messages):
    return [hash(word) for message in messages for word in message["content"].split()]


def fit(messages, max_tokens, limit_tokens):
    kept = []

    def remember(shorter):
        kept[:] = [message["content"] for message in shorter]
        return to_ids(shorter)

    prompt = fit_conversation(messages, max_tokens, limit_tokens, remember)
    assert len(prompt.ids) + prompt.max_tokens <= limit_tokens
    return kept, prompt


def test_what_fits_stays_as_it_is():
    kept, prompt = fit(conversation("a", "b", "c"), 7, 10)
    assert (kept, prompt.max_tokens, prompt.note) == (["a", "b", "c"], 7, "")


def test_the_oldest_question_goes_with_its_answer_and_it_is_told():
    kept, prompt = fit(conversation("a " * 3, "b " * 3, "c", "d", "e"), 2, 10)
    assert kept == ["c", "d", "e"]
    assert prompt.note == (
        "The oldest 2 messages were left out: the model reads 10 tokens at most."
    )


@pytest.mark.parametrize(("limit_tokens", "room"), [(8192, 256), (512, 128)])
def test_a_long_answer_that_is_allowed_pushes_no_turn_out(limit_tokens, room):
    said = conversation("a " * 100, "b " * 100, "c " * 100)
    kept, prompt = fit(said, limit_tokens - 192, limit_tokens)
    assert (len(kept), prompt.max_tokens) == (3, limit_tokens - 300)
    assert prompt.note == f"There is room for an answer of {limit_tokens - 300:,} tokens only."
    long = conversation("a " * 100, "b", "c " * (limit_tokens - 101 - room))
    kept, prompt = fit(long, limit_tokens, limit_tokens)
    assert (len(kept), prompt.max_tokens) == (3, room)
    long[-1]["content"] += "c "
    kept, prompt = fit(long, limit_tokens, limit_tokens)
    assert (len(kept), prompt.max_tokens) == (1, room + 100)
    assert "The oldest 2 messages were left out" in prompt.note


def test_the_system_prompt_stays():
    kept, _ = fit(conversation("a " * 6, "b", "c", system=True), 6, 10)
    assert kept == ["be kind", "c"]


def test_a_long_last_message_gets_a_shorter_answer():
    kept, prompt = fit(conversation("a", "b", "c " * 8), 7, 10)
    assert (kept, prompt.max_tokens) == (["c " * 8], 2)
    assert "room for an answer of 2 tokens" in prompt.note


def test_a_last_message_that_is_too_long_is_a_sentence():
    with pytest.raises(WorkbenchError, match="10 tokens; that is longer than the 10 this model"):
        fit(conversation("a", "b", "c " * 10), 1, 10)
    with pytest.raises(WorkbenchError, match="longer than the 10"):
        fit_text([0] * 10, 1, 10)
    assert fit_text([0] * 9, 5, 10).max_tokens == 1
