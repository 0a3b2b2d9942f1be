"""A SentencePiece tokenizer as GGUF files keep it, and how llama.cpp reads texts with it. Knows no torch.

llama.cpp has no list of merges for these: it joins whichever neighbours make the token with the best score
(``src/llama-vocab.cpp``, ``llm_tokenizer_spm_session``), as SentencePiece does. Only the order of scores counts, and that
is the order of the merges in a ``tokenizer.json``, which were worked out from SentencePiece's scores.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf

from workbench.data.formats import Message
from workbench.export.gguf_tokenizer import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    GgufVocabulary,
    cannot_be_written,
    tokens_and_kinds,
)

SPACE = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
# What llama.cpp can be told of spaces: whether one goes before the text and after every special token. Where a tokenizer
# puts one before the whole text only, the chat template has to write it.
_SPACES = ((True, False), (False, False), (False, True))


def is_sentencepiece(tokenizer: Mapping[str, Any]) -> bool:
    """Say whether a ``tokenizer.json`` is one of SentencePiece's kind: what has no token is written as bytes."""
    return tokenizer["model"].get("type") == "BPE" and bool(tokenizer["model"].get("byte_fallback"))


def sentencepiece_vocabulary(tokenizer: Mapping[str, Any], vocabulary_size: int) -> GgufVocabulary:
    """Translate a ``tokenizer.json``; what to do with spaces is for ``choose_spaces``.

    Args:
        tokenizer: Its contents.
        vocabulary_size: How many embeddings the model has; some may have no token.

    Raises:
        WorkbenchError: llama.cpp would read texts differently.
    """
    _check_normal(tokenizer)
    tokens, kinds = tokens_and_kinds(tokenizer, vocabulary_size)
    kinds = [
        BYTE if kind == NORMAL and _BYTE.fullmatch(token) else kind
        for token, kind in zip(tokens, kinds, strict=True)
    ]
    unknown = tokenizer["model"].get("unk_token") or "<unk>"
    if unknown in tokens:
        kinds[tokens.index(unknown)] = UNKNOWN
    merges = [
        tuple(pair.split(" ") if isinstance(pair, str) else pair)
        for pair in tokenizer["model"]["merges"]
    ]
    order = _order(merges)
    normal = [token for token, kind in zip(tokens, kinds, strict=True) if kind == NORMAL]
    if kinds.count(BYTE) != 256 or not _is_complete(normal, merges):
        raise cannot_be_written()
    return GgufVocabulary(
        model="llama",
        pre="default",
        tokens=tokens,
        kinds=kinds,
        scores=[-float(order.get(token, len(order))) for token in tokens],
    )


def _check_normal(tokenizer: Mapping[str, Any]) -> None:
    """Refuse what changes texts in other ways than writing spaces as ``▁``."""
    normalizer = tokenizer.get("normalizer")
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    cut = tokenizer.get("pre_tokenizer") or {"type": "Metaspace", "split": False}
    if (
        not all(step["type"] in ("Prepend", "Replace") for step in steps)
        or cut["type"] != "Metaspace"
        or cut.get("split", True)
        or tokenizer["model"].get("ignore_merges")
    ):
        raise cannot_be_written()


def _order(merges: Iterable[tuple[str, ...]]) -> dict[str, int]:
    """Return the place of every token that is made of two others, the one that is made first at 0."""
    order: dict[str, int] = {}
    for pair in merges:
        order.setdefault("".join(pair), len(order))
    return order


def _is_complete(tokens: Sequence[str], merges: Sequence[tuple[str, ...]]) -> bool:
    """Say whether merges follow from tokens and their order alone, which is all that llama.cpp knows.

    Every two parts of a token make it, and no other token's turn comes between.
    """
    known, pairs, made = set(tokens), set(merges), ["".join(pair) for pair in merges]
    turns = sum(one != other for one, other in zip(made, ["", *made], strict=False))
    return turns == len(set(made)) and all(
        (token[:cut], token[cut:]) in pairs
        for token in tokens
        for cut in range(1, len(token))
        if token[:cut] in known and token[cut:] in known
    )


def choose_spaces(
    vocabulary: GgufVocabulary, prompts: Sequence[tuple[str, list[int]]]
) -> GgufVocabulary:
    """Return the vocabulary with what llama.cpp must do with spaces to read prompts as the tokenizer does.

    Args:
        vocabulary: Of a SentencePiece tokenizer.
        prompts: Texts as the chat template writes them, and their ids.

    Raises:
        WorkbenchError: There is no such way.
    """
    for space_prefix, template_space in _SPACES:
        found = replace(vocabulary, space_prefix=space_prefix, template_space=template_space)
        begin = " " if template_space else ""
        if all(read(found, begin + text) == ids for text, ids in prompts):
            return found
    raise cannot_be_written()


def read(vocabulary: GgufVocabulary, text: str) -> list[int]:
    """Return the ids of a prompt as llama.cpp reads it, special tokens in it included."""
    ids_by_token = {token: index for index, token in enumerate(vocabulary.tokens)}
    ids: list[int] = []
    is_after_token = True
    for piece, index in _cut_at_tokens(vocabulary, text):
        if index is not None:
            ids.append(index)
        elif piece:
            prefix = " " if vocabulary.space_prefix and is_after_token else ""
            symbols = _joined((prefix + piece).replace(" ", SPACE), ids_by_token, vocabulary.scores)
            ids += _ids(symbols, ids_by_token)
        is_after_token = index is not None
    return ids


def read_gguf(path: Path) -> tuple[GgufVocabulary, str] | None:
    """Return vocabulary and chat template of a GGUF file; ``None`` where it is not of SentencePiece's kind."""
    fields = gguf.GGUFReader(path).fields
    if fields["tokenizer.ggml.model"].contents() != "llama":
        return None
    vocabulary = GgufVocabulary(
        model="llama",
        pre="default",
        tokens=fields["tokenizer.ggml.tokens"].contents(),
        kinds=fields["tokenizer.ggml.token_type"].contents(),
        scores=fields["tokenizer.ggml.scores"].contents(),
        space_prefix=fields["tokenizer.ggml.add_space_prefix"].contents(),
    )
    return vocabulary, fields["tokenizer.chat_template"].contents()


def read_prompt(
    vocabulary: GgufVocabulary, template: str, tokenizer: Any, messages: Sequence[Message]
) -> list[int]:
    """Return the ids of a prompt as llama.cpp writes and reads it with what a GGUF file says.

    Args:
        vocabulary: Of the file.
        template: Of the file.
        tokenizer: Renders the template.
        messages: They end on a question.
    """
    text = tokenizer.apply_chat_template(
        list(messages), chat_template=template, tokenize=False, add_generation_prompt=True
    )
    return read(vocabulary, text)


def _cut_at_tokens(vocabulary: GgufVocabulary, text: str) -> list[tuple[str, int | None]]:
    """Cut a text at its special tokens, the longest of these first; they have their id."""
    special = [
        (token, index)
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind in (CONTROL, USER_DEFINED, UNKNOWN) and token in text
    ]
    pieces: list[tuple[str, int | None]] = [(text, None)]
    for token, index in sorted(special, key=lambda one: -len(one[0])):
        cut: list[tuple[str, int | None]] = []
        for piece, known in pieces:
            if known is not None:
                cut.append((piece, known))
                continue
            for part in piece.split(token):
                cut += [(part, None), (token, index)]
            cut.pop()
        pieces = [(piece, known) for piece, known in cut if piece]
    return pieces


def _joined(text: str, ids: Mapping[str, int], scores: Sequence[float]) -> list[str]:
    """Join neighbours, those with the best score first, the leftmost of equal ones, until no two make a token."""
    symbols = [*text]
    after = [*range(1, len(symbols)), -1]
    before = [*range(-1, len(symbols) - 1)]
    waiting: list[tuple[float, int, str]] = []

    def offer(left: int) -> None:
        if left >= 0 and after[left] >= 0:
            both = symbols[left] + symbols[after[left]]
            if both in ids:
                heapq.heappush(waiting, (-scores[ids[both]], left, both))

    for left in range(len(symbols)):
        offer(left)
    while waiting:
        _, left, both = heapq.heappop(waiting)
        right = after[left]
        if not symbols[left] or right < 0 or symbols[left] + symbols[right] != both:
            continue  # one of the two was joined with another one meanwhile
        symbols[left], symbols[right] = both, ""
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
        offer(left)
        offer(before[left])
    return [symbol for symbol in symbols if symbol]


def _ids(symbols: Iterable[str], ids: Mapping[str, int]) -> list[int]:
    """Return the ids of symbols; one that is no token is written as its bytes."""
    found: list[int] = []
    for symbol in symbols:
        known = ids.get(symbol)
        found += [ids[f"<0x{byte:02X}>"] for byte in symbol.encode()] if known is None else [known]
    return found
