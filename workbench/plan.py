"""What will happen if you press Start: pure arithmetic, with the source of every number.

``make_plan`` also chooses every automatic setting, and says why in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench import defaults
from workbench.config import TrainingConfig
from workbench.data.split import held_back_rows, weighted_rows
from workbench.models.catalogue import ModelFacts
from workbench.presets import MethodPreset

# English text has about 4.2 characters a token with a 49k vocabulary (measured on the samples with
# the starter model), other scripts fewer; the chat template adds about 31 tokens to a conversation.
CHARACTERS_PER_TOKEN = 4.2
TEMPLATE_TOKENS = 31
GENERAL_TOKENS = 102  # of a general example; measured on the workbench's own with the starter model

# Floating-point operations per weight and token: 2 forward, 2 to pass the gradient back, and 2 more
# where the weight itself is trained (Kaplan et al., arXiv 2001.08361, appendix B).
OPERATIONS_PER_WEIGHT = {"adapter": 4, "model": 6}
# Useful speed of one CPU core in fp32: 77 GFLOP/s measured in training on an Ice Lake Xeon without
# bf16, 93 on a Zen 4 with it. Rounded down: a promise should be kept.
CPU_OPERATIONS_PER_SECOND = 60e9
UNPACKING_CPU_SLOWDOWN = (
    1.7  # weights are unpacked in every step; 1.6 to 1.9 measured (bitsandbytes 0.50)
)
LOADING_SECONDS = 25  # importing the libraries, loading and saving, on a slow laptop


@dataclass(frozen=True)
class DataFacts:
    """What the plan needs to know of a dataset.

    Attributes:
        row_count: Usable rows.
        mean_characters: Of a row, all messages together.
        weight: How often an epoch sees each row.
        token_lengths: int64 (rows,), each row's length in tokens of the model; ``None`` when not
            counted yet.
    """

    row_count: int
    mean_characters: float
    weight: float = 1.0
    token_lengths: NDArray[np.int64] | None = None

    def fitting(self, longest_tokens: int, too_long: str) -> tuple[int, float]:
        """Return how many rows are kept at a maximum length, and the mean tokens of those."""
        if self.token_lengths is None:
            mean_tokens = self.mean_characters / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS
            return self.row_count, min(longest_tokens, mean_tokens)
        lengths = np.minimum(self.token_lengths, longest_tokens)
        if too_long == "drop":
            lengths = lengths[self.token_lengths <= longest_tokens]
        return len(lengths), float(lengths.mean()) if len(lengths) else 0.0


@dataclass(frozen=True)
class Plan:
    """What will happen.

    Attributes:
        config: Every setting has a value.
        reasons: Why each automatic setting has its value, by name.
        train_rows: Rows the model learns from in an epoch.
        validation_rows: Rows held back.
        total_steps: Optimizer steps.
        total_tokens: Tokens the model reads while training, estimated.
        seconds: From Start to the tuned model, without a download; ``None`` when not known.
        seconds_source: Where ``seconds`` comes from, in words.
        too_long_rows: Rows longer than the maximum length; ``None`` when not counted yet.
    """

    config: TrainingConfig
    reasons: dict[str, str]
    train_rows: int
    validation_rows: int
    total_steps: int
    total_tokens: int
    seconds: float | None
    seconds_source: str
    too_long_rows: int | None


@dataclass(frozen=True)
class Machine:
    """What the plan needs to know of the computer.

    ``measured_tokens_per_second`` comes from the last run here with the same model and method.
    """

    cpu_cores: int
    has_gpu: bool
    measured_tokens_per_second: float | None = None


def make_plan(
    config: TrainingConfig,
    data: Sequence[DataFacts],
    model: ModelFacts,
    method: MethodPreset,
    machine: Machine,
    *,
    separate_validation_rows: int | None = None,
) -> Plan:
    """Resolve the automatic settings and work out what follows from them.

    Args:
        config: What the person set.
        data: The datasets to train on.
        model: The model's size.
        method: How it is trained.
        machine: The computer.
        separate_validation_rows: Rows of a dataset that is there for checking only; then nothing is
            held back from the others.
    """
    chosen: dict[str, Any] = {}
    reasons: dict[str, str] = {}

    def choose(name: str, value: Any, reason: str) -> Any:
        given = getattr(config, name)
        if given is not None:
            return given
        chosen[name], reasons[name] = value, reason
        return value

    for name, value in method.config.items():
        choose(name, value, f"that is usual for {method.label}")
    if config.uses("trained_layers"):
        choose("trained_layers", *defaults.trained_layers(model))
    longest_tokens = choose(
        "max_length",
        *defaults.max_length([part.token_lengths for part in data], model.context_tokens),
    )
    fitting = [part.fitting(longest_tokens, config.too_long) for part in data]
    rows = sum(count for count, _ in fitting)
    if separate_validation_rows is None:
        share = choose("validation_share", *defaults.validation_share(rows))
        held_back = [held_back_rows(count, share) for count, _ in fitting]
    else:
        choose("validation_share", 0.0, "you gave rows to check with")
        held_back = [0] * len(data)
    validation_rows = separate_validation_rows or sum(held_back)
    train_rows_of = [
        weighted_rows(count - held, part.weight)
        for part, (count, _), held in zip(data, fitting, held_back, strict=True)
    ]
    train_rows = sum(train_rows_of)
    batch_size = choose("batch_size", *defaults.batch_size(train_rows))
    choose("epochs", *defaults.epochs(train_rows))
    choose("learning_rate", *defaults.learning_rate(model, method))
    total_steps = config.model_copy(update=chosen).total_steps(train_rows)
    choose("warmup_ratio", *defaults.warmup_ratio(total_steps))
    choose("eval_steps", *defaults.cadence(total_steps, defaults.EVALUATIONS_PER_RUN, "checks"))
    choose(
        "save_steps", *defaults.cadence(total_steps, defaults.CHECKPOINTS_PER_RUN, "checkpoints")
    )
    epoch_tokens = sum(
        count * mean_tokens for count, (_, mean_tokens) in zip(train_rows_of, fitting, strict=True)
    )
    row_tokens = epoch_tokens / max(1, train_rows)
    general_tokens = (
        config.model_copy(update=chosen).general_rows_per_step(train_rows) * GENERAL_TOKENS
    )
    step_tokens = min(batch_size, train_rows) * row_tokens + general_tokens
    total_tokens = round(total_steps * step_tokens)
    seconds, source = _seconds(method, total_tokens, model, machine)
    return Plan(
        config=config.model_copy(update=chosen),
        reasons=reasons,
        train_rows=train_rows,
        validation_rows=validation_rows,
        total_steps=total_steps,
        total_tokens=total_tokens,
        seconds=seconds,
        seconds_source=source,
        too_long_rows=_too_long_rows(longest_tokens, data),
    )


def _too_long_rows(longest_tokens: int, data: Sequence[DataFacts]) -> int | None:
    lengths = [part.token_lengths for part in data if part.token_lengths is not None]
    if len(lengths) < len(data):
        return None
    return sum(int((of_part > longest_tokens).sum()) for of_part in lengths)


def _seconds(
    method: MethodPreset, tokens: int, model: ModelFacts, machine: Machine
) -> tuple[float | None, str]:
    if machine.measured_tokens_per_second:
        seconds = tokens / machine.measured_tokens_per_second
        return seconds + LOADING_SECONDS, "from your last run with this model and method"
    if machine.has_gpu or model.parameters is None:
        return None, "not known before the first run with this model on this computer"
    per_token: float = OPERATIONS_PER_WEIGHT[method.saves] * model.parameters
    if method.base != "plain":
        per_token *= UNPACKING_CPU_SLOWDOWN
    speed = CPU_OPERATIONS_PER_SECOND * machine.cpu_cores
    return (
        tokens * per_token / speed + LOADING_SECONDS,
        f"estimated for {machine.cpu_cores} CPU cores",
    )
