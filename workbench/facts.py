"""What a plan is made from: the data and the computer, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

# English text has about 4.2 characters a token with a 49k vocabulary (measured on the samples with
# the starter model), other scripts fewer; the chat template adds about 31 tokens to a conversation.
CHARACTERS_PER_TOKEN = 4.2
TEMPLATE_TOKENS = 31
Precision = Literal["fp32", "bf16"]
SUPERVISED_SHARE = 0.75  # of all tokens, where not counted; Alpaca data has 0.6 to 0.8

# Of the general examples at most so many are used: the base model is asked about each before training starts.
GENERAL_ROWS = 512


@dataclass(frozen=True)
class DataFacts:
    """What the plan needs to know of a dataset.

    Attributes:
        row_count: Usable rows.
        mean_characters: Of a row, all messages together.
        weight: How often an epoch sees each row.
        token_lengths: int64 (rows,), each row's length in tokens of the model; ``None`` when not
            counted yet.
        supervised_lengths: int64 (rows,), how many of them the loss counts; ``None`` likewise.
        shared_start: Tokens that all rows begin with; 0 when not counted yet.
    """

    row_count: int
    mean_characters: float
    weight: float = 1.0
    token_lengths: NDArray[np.int64] | None = None
    supervised_lengths: NDArray[np.int64] | None = None
    shared_start: int = 0

    def kept_lengths(self, longest_tokens: int, too_long: str) -> NDArray[np.int64]:
        """Return the length in tokens of every row that is kept at a maximum length."""
        if self.token_lengths is None:
            mean_tokens = round(self.mean_characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS)
            return np.full(self.row_count, min(longest_tokens, mean_tokens))
        lengths = np.minimum(self.token_lengths, longest_tokens)
        return lengths[self.token_lengths <= longest_tokens] if too_long == "drop" else lengths

    @property
    def supervised_share(self) -> float:
        """The share of tokens that the loss counts."""
        if self.token_lengths is None or self.supervised_lengths is None:
            return SUPERVISED_SHARE
        return float(self.supervised_lengths.sum() / max(1, self.token_lengths.sum()))


@dataclass(frozen=True)
class Machine:
    """What the plan needs to know of the computer.

    Attributes:
        cpu_cores: Physical cores.
        device: Where it will compute.
        device_name: What the page calls it.
        free_memory_bytes: Of the computer or the graphics card; ``None`` when not known.
        free_disk_bytes: Where the workspace is; ``None`` when not known.
        precision: What ``auto`` will become here.
        precision_reason: Why, in words.
        measured_tokens_per_second: From the last run here with the same model and method.
        has_liger: Whether a graphics card will compute with Liger kernels, if they know the model.
    """

    cpu_cores: int
    device: Literal["cpu", "cuda"] = "cpu"
    device_name: str = "CPU"
    free_memory_bytes: int | None = None
    free_disk_bytes: int | None = None
    precision: Precision = "fp32"
    precision_reason: str = "it is always right"
    measured_tokens_per_second: float | None = None
    has_liger: bool = False


@dataclass(frozen=True)
class Workload:
    """What is computed, once every setting has a value.

    Attributes:
        train_rows: Rows the model learns from in an epoch.
        validation_rows: Rows held back.
        row_tokens: Mean tokens of a row.
        shared_start: Tokens that all rows begin with, which a step computes once; 0 where rows are padded.
        hardest_tokens: Tokens of the hardest step: the longest rows together, with padding.
        longest_row_tokens: Tokens of the longest row.
        supervised_share: The share of your rows' tokens that the loss counts.
        total_steps: Optimizer steps.
        tokens_per_step: Tokens a step reads on average, general examples among them.
        own_per_step: Of these, those of your rows.
        computed_per_step: Of these, those that are computed.
    """

    train_rows: int
    validation_rows: int
    row_tokens: float
    shared_start: int
    hardest_tokens: int
    longest_row_tokens: int
    supervised_share: float
    total_steps: int
    tokens_per_step: float
    own_per_step: float
    computed_per_step: float

    @property
    def own_tokens(self) -> float:
        """Mean tokens of a row without what all rows begin with."""
        return self.row_tokens - self.shared_start

    @property
    def total_tokens(self) -> int:
        """Tokens the model reads while training."""
        return round(self.total_steps * self.tokens_per_step)

    @property
    def supervised_tokens(self) -> int:
        """Tokens the loss counts while training; nothing of the general examples is among them."""
        return round(self.total_steps * self.own_per_step * self.supervised_share)


def base_answers_name(model_dir: Path, digest: str) -> str:
    """Return the name of the file that keeps what a base model answers to general examples.

    It lies beside their conversations; ``*`` as the digest finds every one of a model.
    """
    return f"base-{model_dir.name}-{digest}.npz"
