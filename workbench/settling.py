"""Give every automatic setting its value, with the reason in words, and count what follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench import defaults
from workbench.config import TrainingConfig
from workbench.data.split import held_back_rows, weighted_rows
from workbench.facts import DataFacts, Workload
from workbench.models.facts import ModelFacts
from workbench.presets import MethodPreset

GENERAL_TOKENS = 102  # of a general example; measured on the workbench's own with the starter model


class Choices:
    """The settings so far; what the person set wins over what is proposed."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.reasons: dict[str, str] = {}

    def propose(self, name: str, value: Any, reason: str) -> Any:
        """Take a value for a setting that is automatic; return the one that counts."""
        if getattr(self.config, name) is None:
            self.config = self.config.model_copy(update={name: value})
            self.reasons[name] = reason
        return getattr(self.config, name)


def settle(
    config: TrainingConfig,
    data: Sequence[DataFacts],
    model: ModelFacts,
    method: MethodPreset,
    separate_validation_rows: int | None,
    *,
    padded: bool,
) -> tuple[Choices, Workload]:
    """Choose every setting that is automatic, but those that depend on memory.

    Args:
        config: What the person set.
        data: The datasets to train on.
        model: The model's size.
        method: How it is trained.
        separate_validation_rows: Rows of a dataset that only checks; then none is held back.
        padded: Rows of a micro-batch are filled up to one length.
    """
    choices = Choices(config)
    for name, value in method.config.items():
        choices.propose(name, value, f"that is usual for {method.label}")
    if config.uses("trained_layers"):
        choices.propose("trained_layers", *defaults.trained_layers(model))
    lengths_known = [part.token_lengths for part in data]
    limit = choices.propose("max_length", *defaults.max_length(lengths_known, model.context_tokens))
    kept = [part.kept_lengths(limit, config.too_long) for part in data]
    validation_rows, train_rows_of = _rows(choices, data, kept, separate_validation_rows)
    train_rows = sum(train_rows_of)
    _choose_schedule(choices, train_rows, model, method)
    means = [float(part.mean()) if len(part) else 0.0 for part in kept]
    tokens = sum(count * mean for count, mean in zip(train_rows_of, means, strict=True))
    row_tokens = tokens / max(1, train_rows)
    supervised = sum(
        count * mean * part.supervised_share
        for count, mean, part in zip(train_rows_of, means, data, strict=True)
    )
    batch_size = min(choices.config.batch_size or 1, train_rows)
    rows_per_step = train_rows / max(1, math.ceil(train_rows / max(1, batch_size)))
    general_rows = choices.config.general_rows_per_step(train_rows)
    longest = np.sort(np.concatenate(kept))[::-1][: max(1, batch_size)]
    shared = 0 if padded else min(part.shared_start for part in data)
    saved = shared * max(0, batch_size - 1)
    tokens_per_step = rows_per_step * row_tokens + general_rows * GENERAL_TOKENS
    return choices, Workload(
        train_rows=train_rows,
        validation_rows=validation_rows,
        row_tokens=row_tokens,
        shared_start=shared,
        hardest_tokens=int(longest[0] * len(longest) if padded else longest.sum() - saved)
        if len(longest)
        else 0,
        longest_row_tokens=int(longest[0]) if len(longest) else 0,
        supervised_share=supervised / max(1.0, tokens),
        total_steps=choices.config.total_steps(train_rows),
        tokens_per_step=tokens_per_step,
        own_per_step=rows_per_step * row_tokens,
        computed_per_step=tokens_per_step - shared * max(0.0, rows_per_step - 1),
    )


def _rows(
    choices: Choices, data: Sequence[DataFacts], kept: Sequence[Any], separate_rows: int | None
) -> tuple[int, list[int]]:
    """Return the rows that check, and how many of each dataset an epoch learns from."""
    counts = [len(part) for part in kept]
    if separate_rows is None:
        share = choices.propose("validation_share", *defaults.validation_share(sum(counts)))
        held_back = [held_back_rows(count, share) for count in counts]
    else:
        choices.propose("validation_share", 0.0, "you gave rows to check with")
        held_back = [0] * len(counts)
    train_rows_of = [
        weighted_rows(count - held, part.weight)
        for part, count, held in zip(data, counts, held_back, strict=True)
    ]
    return separate_rows or sum(held_back), train_rows_of


def _choose_schedule(
    choices: Choices, train_rows: int, model: ModelFacts, method: MethodPreset
) -> None:
    """Choose how long and how strongly it trains."""
    choices.propose("batch_size", *defaults.batch_size(train_rows))
    fast = defaults.learns_fast(choices.config, model, method)
    epochs = choices.propose("epochs", *defaults.epochs(train_rows, fast=fast))
    most_steps = choices.config.max_steps
    passes = (
        epochs
        if most_steps is None
        else most_steps * (choices.config.batch_size or 1) / max(1, train_rows)
    )
    fast = fast and passes <= defaults.FAST_EPOCHS
    choices.propose("learning_rate", *defaults.learning_rate(model, method, fast=fast))
    steps = choices.config.total_steps(train_rows)
    choices.propose("warmup_ratio", *defaults.warmup_ratio(steps))
    choices.propose("eval_steps", *defaults.cadence(steps, defaults.EVALUATIONS_PER_RUN, "checks"))
    choices.propose(
        "save_steps", *defaults.cadence(steps, defaults.CHECKPOINTS_PER_RUN, "checkpoints")
    )
