"""Tokenizers of SentencePiece's kind in GGUF files: llama.cpp reads chats with them as training did."""

from __future__ import annotations

import json
from dataclasses import replace

import gguf
import pytest
from transformers import AutoTokenizer

from tests.export.made import (
    FIRST_TOKEN,
    SENTENCEPIECE_TEXT,
    TURNS,
    build_sentencepiece_model,
    export,
    make_run,
)
from workbench.errors import WorkbenchError
from workbench.export import whole
from workbench.export.gguf_sentencepiece import (
    choose_spaces,
    read,
    read_gguf,
    read_prompt,
    sentencepiece_vocabulary,
)
from workbench.export.gguf_tokenizer import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, adds_bos
from workbench.models.rendering import load_tokenizer, prompt_ids

TEXTS = [
    *SENTENCEPIECE_TEXT,
    "",
    " ",
    "      six spaces",
    "  leading, and   inner    ones ",
    "你好世界 and 漢字",
    "🙂👩🏽‍🚀🏳️‍🌈",
    "naïve café ﬁ Œ",
    "tab\there\n\n\nand lines",
    "a token </s>in between<s>and <|tool|>another<|tool|>",
    "<0x0A> is a byte's name, <unk>another",
    "▁ is what spaces are written as",
    "thethethethe number numbernumber",
    "\u00a0\u200b\ufeff",
]


@pytest.fixture(scope="module")
def sentencepiece_dir(tmp_path_factory):
    return build_sentencepiece_model(tmp_path_factory.mktemp("sentencepiece"))


def contents(tokenizer):
    return json.loads(tokenizer.backend_tokenizer.to_str())


@pytest.mark.parametrize("template", [FIRST_TOKEN + TURNS, TURNS])
@pytest.mark.parametrize("legacy", [True, False])
def test_every_text_has_the_same_ids_in_the_file(services, alpaca_file, tmp_path, template, legacy):
    base_dir = build_sentencepiece_model(tmp_path / "base", template, legacy=legacy)
    run = make_run(services, alpaca_file, base_dir)
    result = export(services, run, "gguf", tmp_path / "x.gguf")
    assert result.checks["gguf"]["distance"] < 0.01
    tokenizer = load_tokenizer(base_dir)
    vocabulary, stored_template = read_gguf(tmp_path / "x.gguf")
    for text in TEXTS:
        talk = [
            {"role": "user", "content": text},
            {"role": "assistant", "content": text},
            {"role": "user", "content": "Go on"},
        ]
        for messages in (talk[:1], talk):
            found = read_prompt(vocabulary, stored_template, tokenizer, messages)
            assert found == prompt_ids(tokenizer, messages), messages
    assert vocabulary.space_prefix == legacy  # before every part of a text, or before the first
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    # The first token is in the template, or was not there in training either.
    assert fields["tokenizer.ggml.add_bos_token"].contents() == (template != TURNS)
    assert fields["tokenizer.ggml.model"].contents() == "llama"


def test_transformers_reads_the_same_ids_from_the_file(services, alpaca_file, tmp_path):
    """Another reader, for texts without special tokens, where it does with spaces as llama.cpp does."""
    base_dir = build_sentencepiece_model(tmp_path / "base")
    run = make_run(services, alpaca_file, base_dir)
    export(services, run, "gguf", tmp_path / "x.gguf")
    other = AutoTokenizer.from_pretrained(tmp_path, gguf_file="x.gguf")
    own = load_tokenizer(base_dir)
    vocabulary = replace(read_gguf(tmp_path / "x.gguf")[0], space_prefix=True)
    plain = [text for text in TEXTS if text and text[0] not in " ▁" and "<" not in text]
    assert len(plain) > 6
    for text in plain:
        expected = own(text, add_special_tokens=False)["input_ids"]
        assert other(text, add_special_tokens=False)["input_ids"] == expected
        assert read(vocabulary, text) == expected, text


def test_tokens_have_their_kind_and_scores_their_order(sentencepiece_dir):
    tokenizer = load_tokenizer(sentencepiece_dir)
    vocabulary = sentencepiece_vocabulary(contents(tokenizer), len(tokenizer) + 2)
    kinds = dict(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
    assert kinds["<unk>"] == UNKNOWN
    assert kinds["<s>"] == kinds["</s>"] == CONTROL
    assert kinds["<0x0A>"] == BYTE
    assert vocabulary.kinds.count(BYTE) == 256
    assert kinds["<|tool|>"] == CONTROL
    assert kinds["[note]"] == USER_DEFINED
    assert kinds["▁the"] == NORMAL
    scores = dict(zip(vocabulary.tokens, vocabulary.scores, strict=True))
    for left, right in contents(tokenizer)["model"]["merges"]:
        whole_score = scores[left + right]
        assert all(whole_score < scores[part] or len(part) == 1 for part in (left, right))
    assert min(scores.values()) == scores["<s>"] == scores["a"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made["model"]["merges"].pop(20),  # two parts of a token that do not make it
        lambda made: made["model"]["merges"].insert(0, made["model"]["merges"][-1]),
        lambda made: made["model"]["vocab"].pop("<0x0A>"),
        lambda made: made.update(normalizer={"type": "NFKC"}),
        lambda made: made["pre_tokenizer"].update(split=True),
        lambda made: made.update(pre_tokenizer={"type": "Whitespace"}),
    ],
)
def test_what_llama_cpp_would_read_differently_is_refused(sentencepiece_dir, spoil):
    made = contents(load_tokenizer(sentencepiece_dir))
    sentencepiece_vocabulary(made, 600)
    spoil(made)
    with pytest.raises(WorkbenchError, match="cannot be written into a GGUF file here"):
        sentencepiece_vocabulary(made, 600)


def test_spaces_that_cannot_be_said_are_refused(sentencepiece_dir):
    tokenizer = load_tokenizer(sentencepiece_dir)
    vocabulary = sentencepiece_vocabulary(contents(tokenizer), len(tokenizer))
    ids = tokenizer("the number", add_special_tokens=False)["input_ids"]
    assert choose_spaces(vocabulary, [("the number", ids)]).space_prefix
    with pytest.raises(WorkbenchError, match="cannot be written"):
        choose_spaces(vocabulary, [("the number", [*ids, 1])])


def test_a_file_that_reads_questions_differently_is_not_kept(
    services, alpaca_file, sentencepiece_dir, tmp_path, monkeypatch
):
    run = make_run(services, alpaca_file, sentencepiece_dir)
    written = whole.write_gguf

    def spoiled(model, tokenizer, vocabulary, *others):
        other_spaces = replace(vocabulary, space_prefix=not vocabulary.space_prefix)
        written(model, tokenizer, other_spaces, *others)

    monkeypatch.setattr(whole, "write_gguf", spoiled)
    with pytest.raises(WorkbenchError, match="reads a question of your data differently"):
        export(services, run, "gguf", tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


def test_a_first_token_that_chats_do_not_begin_with_is_not_added(tmp_path):
    tokenizer = load_tokenizer(build_sentencepiece_model(tmp_path / "a"))
    assert adds_bos(tokenizer)
    tokenizer.chat_template = TURNS
    assert not adds_bos(tokenizer)
