"""A whole dataset as tokens, kept on disk by content, so that each model tokenizes it once.

A cache file is a NumPy archive without pickles: the ids of all examples one after another (int32), which of
them are supervised (bool), and where each example ends (int64).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.data.formats import Conversation
from workbench.files import read_arrays, write_arrays_atomically
from workbench.models.rendering import (
    BATCH_EXAMPLES,
    IGNORED,
    TokenizedExample,
    same_start,
    tokenize_examples,
)

# Part of a cache file's name: what was made by other rules is not found any more.
RENDERING_VERSION = 1
TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "*.model", "vocab*")
HISTOGRAM_BARS = 32


@dataclass(frozen=True)
class TokenReport:
    """How long the examples are, in tokens; ``over_limit`` counts those longer than the limit."""

    min: int
    median: int
    p95: int
    max: int
    total: int
    over_limit: int


@dataclass(frozen=True)
class Histogram:
    """How many examples have a length from ``edges[i]`` up to, not including, ``edges[i + 1]``."""

    edges: list[int]
    counts: list[int]


def token_cache_path(conversations_path: Path, model_dir: Path) -> Path:
    """Return where the tokens of a dataset lie, or will lie: beside its conversations, and gone with them.

    Args:
        conversations_path: The conversations; they never change.
        model_dir: A model's folder; its tokenizer and chat template count.
    """
    digest = hashlib.sha256(f"{RENDERING_VERSION}".encode())
    paths = {path for pattern in TOKENIZER_FILES for path in model_dir.glob(pattern)}
    for path in sorted(paths):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return conversations_path.with_name(f"tokens-{digest.hexdigest()[:16]}.npz")


def tokenize_dataset(
    tokenizer: Any, conversations: Sequence[Conversation], path: Path
) -> list[TokenizedExample]:
    """Return the examples of a dataset from the cache, or tokenize them and fill it.

    Args:
        tokenizer: As for ``tokenize_examples``.
        conversations: The rows.
        path: From ``token_cache_path``.
    """
    examples = _read(path)
    if examples is None or len(examples) != len(conversations):
        examples = tokenize_examples(tokenizer, [c["messages"] for c in conversations])
        _write(path, examples)
    return examples


def read_lengths(path: Path) -> NDArray[np.int64] | None:
    """Return the length of every example in tokens, or ``None`` when the cache has none."""
    arrays = read_arrays(path, "ends")
    return None if arrays is None else np.diff(arrays["ends"], prepend=0)


def read_supervised_lengths(path: Path) -> NDArray[np.int64] | None:
    """Return how many tokens of every example the loss counts, or ``None`` when the cache has none."""
    arrays = read_arrays(path, "ends", "supervised")
    if arrays is None:
        return None
    counted = np.concatenate([[0], np.cumsum(arrays["supervised"], dtype=np.int64)])
    lengths: NDArray[np.int64] = np.diff(counted[arrays["ends"]], prepend=0)
    return lengths


def read_shared_start(path: Path) -> int:
    """Return how many tokens all examples begin with, which are then computed once; 0 where the cache does not say."""
    arrays = read_arrays(path, "shared_start")
    return 0 if arrays is None else int(arrays["shared_start"])


def token_report(lengths: NDArray[np.int64], limit_tokens: int) -> TokenReport:
    """Summarize lengths.

    Args:
        lengths: int64 (examples,), at least one.
        limit_tokens: What counts as too long.
    """
    return TokenReport(
        min=int(lengths.min()),
        median=round(float(np.median(lengths))),
        p95=round(float(np.percentile(lengths, 95))),
        max=int(lengths.max()),
        total=int(lengths.sum()),
        over_limit=int((lengths > limit_tokens).sum()),
    )


def histogram(lengths: NDArray[np.int64]) -> Histogram:
    """Count lengths in bars of one width; the few longest, above the 99.5th percentile, share the last."""
    top = max(1, int(np.percentile(lengths, 99.5)) + 1 - int(lengths.min()))
    width = -(-top // HISTOGRAM_BARS)
    edges = np.arange(int(lengths.min()), int(lengths.min()) + top + width, width)
    counts, _ = np.histogram(np.minimum(lengths, edges[-1] - 1), edges)
    return Histogram(edges.tolist(), counts.tolist())


class TokenCounter:
    """Counts the tokens of rows as they come, a batch at a time, and keeps only their number.

    Args:
        tokenizer: As for ``tokenize_examples``.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._waiting: list[Conversation] = []
        self._lengths: list[int] = []

    def add(self, row: object, conversation: Conversation) -> None:
        """Take one row; as ``keep`` of ``check.check_file``."""
        self._waiting.append(conversation)
        if len(self._waiting) == BATCH_EXAMPLES:
            self._count()

    def report(self, limit_tokens: int) -> TokenReport:
        """Summarize all rows so far, at least one."""
        self._count()
        return token_report(np.array(self._lengths), limit_tokens)

    def _count(self) -> None:
        examples = tokenize_examples(self._tokenizer, [c["messages"] for c in self._waiting])
        self._lengths += [len(example.input_ids) for example in examples]
        self._waiting = []


def _read(path: Path) -> list[TokenizedExample] | None:
    arrays = read_arrays(path, "ids", "supervised", "ends")
    if arrays is None:
        return None
    labels = np.where(arrays["supervised"], arrays["ids"], IGNORED)
    parts = arrays["ends"][:-1]
    return [
        TokenizedExample(ids.tolist(), marks.tolist())
        for ids, marks in zip(np.split(arrays["ids"], parts), np.split(labels, parts), strict=True)
    ]


def _write(path: Path, examples: Sequence[TokenizedExample]) -> None:
    ids = np.concatenate([np.array(example.input_ids, np.int32) for example in examples])
    labels = np.concatenate([np.array(example.labels, np.int32) for example in examples])
    ends = np.cumsum([len(example.input_ids) for example in examples], dtype=np.int64)
    shared = np.array(same_start([example.input_ids for example in examples]))
    write_arrays_atomically(
        path, ids=ids, supervised=labels != IGNORED, ends=ends, shared_start=shared
    )
