"""A byte-level tokenizer as GGUF files keep it. Pure: works on the contents of a ``tokenizer.json``.

As llama.cpp's converter does it (``conversion/base.py``: ``get_vocab_base``, ``_set_vocab_gpt2``), but the way of
cutting texts into words is read from the tokenizer instead of recognised by a hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import WorkbenchError

# Kinds of tokens (llama.h, llama_token_type).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Ways of cutting texts into words, by the names llama.cpp has for them (src/llama-vocab.cpp).
SPLITS = {_QWEN2: "qwen2", _LLAMA3: "llama-bpe"}


@dataclass(frozen=True)
class GgufVocabulary:
    """What a GGUF says of a tokenizer.

    Attributes:
        model: Its kind, by llama.cpp's name: ``gpt2`` is byte-level, ``llama`` SentencePiece.
        pre: How texts are cut into words before tokens are looked up, by llama.cpp's name.
        tokens: Every token, by id; as many as the model has embeddings.
        kinds: The kind of each.
        merges: Byte-level: which pairs become one token, the first that fits first.
        scores: SentencePiece: how early each token is made, the best first.
        space_prefix: SentencePiece: a space goes before a text, and after every special token.
        template_space: SentencePiece: the chat template must write a space before everything.
    """

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    space_prefix: bool = False
    template_space: bool = False


def gguf_vocabulary(tokenizer: Mapping[str, Any], vocabulary_size: int) -> GgufVocabulary:
    """Translate a ``tokenizer.json``.

    Args:
        tokenizer: Its contents.
        vocabulary_size: How many embeddings the model has; some may have no token.

    Raises:
        WorkbenchError: A kind of tokenizer that we cannot write.
    """
    model = tokenizer["model"]
    if model.get("type") != "BPE":
        raise cannot_be_written()
    tokens, kinds = tokens_and_kinds(tokenizer, vocabulary_size)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return GgufVocabulary(
        model="gpt2",
        pre=_way_of_cutting(tokenizer.get("pre_tokenizer") or {}),
        tokens=tokens,
        kinds=kinds,
        merges=merges,
        # A list cannot be empty; where there are no merges readers look for scores.
        scores=[] if merges else [0.0] * len(tokens),
    )


def tokens_and_kinds(
    tokenizer: Mapping[str, Any], vocabulary_size: int
) -> tuple[list[str], list[int]]:
    """Return every token of a ``tokenizer.json`` by id, and the kind of each."""
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    added = {token["id"]: token for token in tokenizer.get("added_tokens", [])}
    ids |= {token["content"]: index for index, token in added.items()}
    by_id = {index: token for token, index in ids.items()}
    kinds = []
    for index in range(vocabulary_size):
        if index not in by_id:
            kinds.append(UNUSED)
        elif index in added:
            kinds.append(CONTROL if _is_control(added[index]) else USER_DEFINED)
        else:
            kinds.append(NORMAL)
    return [by_id.get(index, f"[PAD{index}]") for index in range(vocabulary_size)], kinds


def adds_bos(tokenizer: Any) -> bool:
    """Say whether its first token goes before every text: the tokenizer does so, and it was trained on chats like that."""
    bos = tokenizer.bos_token
    if bos is None or tokenizer("a")["input_ids"][:1] != [tokenizer.bos_token_id]:
        return False
    question = [{"role": "user", "content": "a"}]
    text: str = tokenizer.apply_chat_template(question, tokenize=False)
    return text.startswith(bos)


def cannot_be_written() -> WorkbenchError:
    """Return the error that says so of a tokenizer."""
    return WorkbenchError(
        "This model's tokenizer cannot be written into a GGUF file here: llama.cpp would read some texts differently.",
        "Export the merged model and convert that with llama.cpp's convert_hf_to_gguf.py.",
    )


def _is_control(token: Mapping[str, Any]) -> bool:
    """Say whether a token is for the machine only; some models forget to say so of ``<|…|>``."""
    text = token["content"]
    return bool(token["special"]) or (text.startswith("<|") and text.endswith("|>"))


def _way_of_cutting(pre_tokenizer: Mapping[str, Any]) -> str:
    steps: Sequence[Mapping[str, Any]] = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    kinds = [step.get("type") for step in steps]
    last = steps[-1]
    if kinds[-1] == "ByteLevel" and not last.get("add_prefix_space"):
        if kinds == ["ByteLevel"] and last.get("use_regex", True):
            return "gpt-2"
        if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
            return "smollm"
        if kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
            pattern = steps[0].get("pattern", {}).get("Regex", "")
            if pattern in SPLITS and steps[0].get("behavior") == "Isolated":
                return SPLITS[pattern]
    raise WorkbenchError(
        "The way this model's tokenizer cuts texts into words has no name in GGUF files that we know.",
        "Export the merged model and convert that with llama.cpp's convert_hf_to_gguf.py.",
    )
