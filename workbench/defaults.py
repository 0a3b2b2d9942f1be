"""What an automatic setting becomes, and why in words: chosen from the data, the model and the method."""

from __future__ import annotations

import math

from workbench.models.catalogue import ModelFacts
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
# The formula gives 9e-4 for the starter model, which learned the sample's name and then thought that "two
# is four"; 3e-4 to 5e-4 learned the name and kept the arithmetic.
LOWEST_LEARNING_RATE, HIGHEST_LEARNING_RATE = 1e-4, 4e-4

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


def epochs(train_rows: int) -> tuple[float, str]:
    """Return how often every example is seen."""
    epochs = next(epochs for limit, epochs in EPOCHS_BY_ROWS if train_rows < limit)
    return epochs, f"you have {train_rows:,} rows to train on"


def learning_rate(model: ModelFacts, method: MethodPreset) -> tuple[float, str]:
    """Return the peak learning rate."""
    hidden_size = model.hidden_size or ANCHOR_HIDDEN_SIZE
    rate = ANCHOR_LEARNING_RATE * (ANCHOR_HIDDEN_SIZE / hidden_size) ** WIDTH_EXPONENT
    rate = min(HIGHEST_LEARNING_RATE, max(LOWEST_LEARNING_RATE, rate)) * method.learning_rate_scale
    rounded = float(f"{rate:.1g}")
    known = "" if model.hidden_size else ", its width not being known yet"
    return rounded, f"that is usual for {method.label} on a model of this size{known}"


def cadence(total_steps: int, times: int, what: str) -> tuple[int, str]:
    """Return after how many steps something is done ``times`` times in a run."""
    return max(1, math.ceil(total_steps / times)), f"about {times} {what} in {total_steps:,} steps"
