"""What an automatic setting becomes, and why in words: chosen from the data, the model and the method.

``settling.py`` asks for them in the right order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.config import TrainingConfig
from workbench.models.facts import ModelFacts
from workbench.presets import MethodPreset

# Epochs by number of rows: few rows must be seen often, many rows need not be.
# Measured on the sample datasets with the starter model; see data/README.md.
EPOCHS_BY_ROWS = ((500, 3.0), (5_000, 2.0), (math.inf, 1.0))

# The learning rate of LoRA falls with the model's width: anchor at a 7B model's 4096, as used by
# QLoRA (arXiv 2305.14314) and most guides; exponent fitted in "LoRA Without Regret"
# (thinkingmachines.ai/blog/lora, 2025) over 14 Llama and Qwen models.
ANCHOR_LEARNING_RATE = 2e-4
ANCHOR_HIDDEN_SIZE = 4096
WIDTH_EXPONENT = 0.78
# The formula gives 9e-4 for the starter model, which learned the sample's name and then thought that "two is
# four"; 3e-4 to 5e-4 learned the name and kept the arithmetic.
LOWEST_LEARNING_RATE, HIGHEST_LEARNING_RATE = 1e-4, 4e-4
# While general skills are kept, LoRA may go as fast as the formula says: two epochs then taught more of the
# samples than three at 4e-4, and broke no more (data/README.md).
FAST_EPOCHS = 2.0

# Every row fits up to here: a row of this length is one micro-batch, so it costs no more memory.
LENGTH_WITHOUT_QUESTION_TOKENS = 2_048
ROWS_THAT_FIT = 0.995  # the longest one in 200 would decide the memory of all
LENGTH_MULTIPLE_TOKENS = 64
UNCOUNTED_LENGTH_TOKENS = 1_024
UNKNOWN_CONTEXT_TOKENS = 4_096

LONG_RUN_STEPS = 200
FEWEST_TRAINED_LAYERS = 2

EVALUATIONS_PER_RUN = 8
CHECKPOINTS_PER_RUN = 4


def validation_share(rows: int) -> tuple[float, str]:
    """Return the share of rows to hold back."""
    if rows < 30:
        return 0.0, f"{rows} rows are too few to hold any back"
    held_back = min(200, max(10, round(rows * 0.05)))
    return round(held_back / rows, 6), f"{held_back} of {rows:,} rows, enough to see overfitting"


def batch_size(train_rows: int) -> tuple[int, str]:
    """Return how many examples a step sees."""
    if train_rows < 1_000:
        return 8, f"{train_rows:,} rows are few, and small batches give more steps"
    return 16, f"{train_rows:,} rows give enough steps"


def learns_fast(config: TrainingConfig, model: ModelFacts, method: MethodPreset) -> bool:
    """Say whether so high a learning rate is right that two epochs do, however few the rows are."""
    is_measured = method.learning_rate is None and method.learning_rate_scale == 1
    rate = config.learning_rate or _rate_by_width(model)
    return config.keep_general and is_measured and rate > HIGHEST_LEARNING_RATE


def epochs(train_rows: int, *, fast: bool = False) -> tuple[float, str]:
    """Return how often every example is seen; ``fast`` is what ``learns_fast`` says."""
    epochs = next(epochs for limit, epochs in EPOCHS_BY_ROWS if train_rows < limit)
    if fast and epochs > FAST_EPOCHS:
        return FAST_EPOCHS, f"{train_rows:,} rows are learned in two at so high a learning rate"
    return epochs, f"you have {train_rows:,} rows to train on"


def learning_rate(
    model: ModelFacts, method: MethodPreset, *, fast: bool = False
) -> tuple[float, str]:
    """Return the peak learning rate.

    Args:
        model: Decides by its width.
        method: Has a rate of its own, or a factor on LoRA's.
        fast: What ``learns_fast`` says, if no more epochs than that allows are trained.
    """
    if method.learning_rate:
        return method.learning_rate, f"that is usual for {method.label}"
    rate = _rate_by_width(model)
    if not fast:
        rate = min(HIGHEST_LEARNING_RATE, rate) * method.learning_rate_scale
    known = "" if model.hidden_size else ", its size not being known yet"
    kept = ", while its general skills are kept" if fast else ""
    reason = f"that is usual for {method.label} on a model of this size{known}{kept}"
    return float(f"{rate:.1g}"), reason


def _rate_by_width(model: ModelFacts) -> float:
    hidden_size = model.hidden_size or ANCHOR_HIDDEN_SIZE
    rate = ANCHOR_LEARNING_RATE * (ANCHOR_HIDDEN_SIZE / hidden_size) ** WIDTH_EXPONENT
    return float(max(LOWEST_LEARNING_RATE, rate))


def max_length(
    lengths: Sequence[NDArray[np.int64] | None], context_tokens: int | None
) -> tuple[int, str]:
    """Return the length in tokens above which a conversation is left out or cut.

    Args:
        lengths: int64 (rows,) for each dataset, each row's length in tokens; ``None`` when not counted.
        context_tokens: The longest text the model can read, or ``None`` when not known.
    """
    longest_allowed = context_tokens or UNKNOWN_CONTEXT_TOKENS
    counted = [of_part for of_part in lengths if of_part is not None and len(of_part)]
    if len(counted) < len(lengths) or not counted:
        return min(
            UNCOUNTED_LENGTH_TOKENS, longest_allowed
        ), "the rows' lengths are not counted yet"
    tokens = np.concatenate(counted)
    longest = int(tokens.max())
    if longest <= min(LENGTH_WITHOUT_QUESTION_TOKENS, longest_allowed):
        return _rounded_up(longest), f"your longest row has {longest:,} tokens"
    most = _rounded_up(int(np.quantile(tokens, ROWS_THAT_FIT, method="higher")))
    if most > longest_allowed:
        return longest_allowed, "this model cannot read more"
    return most, f"{ROWS_THAT_FIT:.1%} of your rows fit; the longest has {longest:,} tokens"


def warmup_ratio(total_steps: int) -> tuple[float, str]:
    """Return the share of steps during which the learning rate rises."""
    share = 0.1 if total_steps < LONG_RUN_STEPS else 0.03
    return share, f"{round(share * total_steps):,} of {total_steps:,} steps are a gentle start"


def _rounded_up(tokens: int) -> int:
    return max(
        LENGTH_MULTIPLE_TOKENS, math.ceil(tokens / LENGTH_MULTIPLE_TOKENS) * LENGTH_MULTIPLE_TOKENS
    )


def trained_layers(model: ModelFacts) -> tuple[int, str]:
    """Return how many of the last layers learn when the others are frozen."""
    layers = model.architecture.get("num_hidden_layers")
    if not layers:
        return FEWEST_TRAINED_LAYERS, "the model's layers are not known yet"
    return max(FEWEST_TRAINED_LAYERS, layers // 4), f"a quarter of the model's {layers} layers"


def cadence(total_steps: int, times: int, what: str) -> tuple[int, str]:
    """Return after how many steps something is done ``times`` times in a run."""
    return max(1, math.ceil(total_steps / times)), f"about {times} {what} in {total_steps:,} steps"
