"""What will happen if you press Start: steps, time, memory, disk. Arithmetic with the source of every number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from workbench.compatibility import find_warnings
from workbench.config import RECOMPUTED_SHARES, WATCHED_ANSWER_TOKENS, TrainingConfig
from workbench.evaluation.request import longest_answer_tokens
from workbench.facts import DataFacts, Machine, Precision, Workload
from workbench.measurements import Measurement
from workbench.memory import Memory, estimate_memory, trained_weights
from workbench.models.facts import ModelFacts, Shape, attends_to_all
from workbench.presets import MethodPreset
from workbench.settling import GENERAL_TOKENS, Choices, settle

# Floating-point operations per weight and token: 2 forward, 2 to pass the gradient back, and 2 more
# where the weight itself is trained (Kaplan et al., arXiv 2001.08361, appendix B).
OPERATIONS_PER_WEIGHT = {"adapter": 4, "model": 6}
# Useful speed of one CPU core in fp32: 77 GFLOP/s measured in training on an Ice Lake Xeon without
# bf16, 93 on a Zen 4 with it. Rounded down: a promise should be kept.
CPU_OPERATIONS_PER_SECOND = 60e9
# Weights of 4 or 8 bits are unpacked in every step; 1.6 to 1.9 measured on a Zen 4 with PEFT's layer (bitsandbytes 0.50), 1.0
# with ``fused_lora.py`` and 4 bits on a Xeon, where products take longer.
UNPACKING_CPU_SLOWDOWN = 1.7
# Of a step whose layers are all computed twice; 28 % measured with LoRA (starter model, Zen 4, bf16).
RECOMPUTING_SLOWDOWN = 1 / 3
SHARE_WORDS = {
    "1/4": "a quarter of the layers",
    "1/2": "half of the layers",
    "3/4": "three quarters of the layers",
    "on": "all layers",
}
STARTING_SECONDS = 10  # importing the libraries, and saving, on a slow laptop
LOADING_SECONDS = 15  # loading the model, and remembering what it was
GENERAL_CHECK_ROWS = 24  # of data/general-heldout.json, read before and after training
GENERAL_CHECK_TOKENS = 2 * GENERAL_CHECK_ROWS * GENERAL_TOKENS
# A decoding step reads all weights, however few tokens it computes: it takes as long as computing so many.
DECODING_STEP_TOKENS = 20
# On a CPU weights of 4 or 8 bits are all unpacked for it (starter model: 150 ms, at a measured speed of 240 tokens a second).
PACKED_DECODING_STEP_TOKENS = 100
# A checkpoint is written, and made safe, while training waits (measured: 1.6 GB in 2.7 to 4.2 s).
CHECKPOINT_BYTES_PER_SECOND = 480e6
FORWARD_SHARE = 1 / 3  # a check only reads: of a training step's 4 to 6 operations it has 2
ASKED_TOGETHER = 32  # rows that an evaluation asks side by side

# Tokens at a time, the quickest first. On 2 cores of an AMD EPYC with AVX512-BF16, 4,096 took 0.95 times as long as 2,048,
# and 1,024 took 1.13 times; a graphics card is idle with few, and how many it wants was not measured here.
MICRO_BATCH_TOKENS = {"cpu": (4096, 2048), "cuda": (8192, 2048)}
# What glibc's allocator may take on top of what is in use, as a factor: freed tensors lie between live ones (8.6
# GB for 4.0, starter model, LoRA, 2,000 tokens). Where that much is not free, it is told to hand them back,
# which is a quarter slower (measured): see ``Plan.hands_memory_back``.
ALLOCATOR_SURPLUS = 2.2
SLOW_WITHOUT_A_CARD = 1_000_000_000  # weights; the starter model has 135 million
TIGHT = 0.85  # of free memory; other programs need some, and the estimate is off by up to a fifth
Fit = Literal["fits", "tight", "will not fit", "unknown"]


@dataclass(frozen=True)
class Plan:
    """What will happen.

    Attributes:
        config: Every setting has a value.
        reasons: Why each automatic setting has its value, by name.
        work: Rows, tokens and steps.
        seconds: From Start to the tuned model, without a download; ``None`` when not known.
        step_seconds: Of one step, or ``None``.
        seconds_source: Where ``seconds`` comes from, in words.
        evaluation_seconds: Of evaluating it afterwards, in the background; 0 for never, ``None`` when not known.
        too_long_rows: Rows longer than the maximum length; ``None`` when not counted yet.
        memory: What needs memory, by part; ``None`` when the model's sizes are not known.
        peak_memory_bytes: All of it, estimated or measured; ``None`` when neither.
        fit: Whether that fits into what is free.
        disk_bytes: What the run will write, and the download; ``None`` when not known.
        machine: The computer it is made for.
        precision: The number format it will compute in, and why.
        measurement: The test drive it rests on, or ``None``.
        warnings: What the person should know before the start, as sentences.
    """

    config: TrainingConfig
    reasons: dict[str, str]
    work: Workload
    seconds: float | None
    step_seconds: float | None
    seconds_source: str
    evaluation_seconds: float | None
    too_long_rows: int | None
    memory: Memory | None
    peak_memory_bytes: int | None
    fit: Fit
    disk_bytes: int | None
    machine: Machine
    precision: tuple[Precision, str]
    measurement: Measurement | None
    warnings: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """Optimizer steps."""
        return self.work.total_steps

    @property
    def evaluated_rows(self) -> int:
        """Rows held back that are asked when training has ended."""
        return evaluated_rows(self.config, self.work)

    @property
    def hands_memory_back(self) -> bool:
        """Whether freed memory is given back at once, because there is not plenty of it."""
        return _has_to_hand_back(self.memory, self.machine)

    @property
    def counts_memory_closely(self) -> bool:
        """Whether a run takes no more memory than it needs, so that reality can be held against the plan."""
        return self.machine.device == "cuda" or self.hands_memory_back

    @property
    def disk_is_short(self) -> bool:
        """Whether less is free than the run will write."""
        free = self.machine.free_disk_bytes
        return free is not None and self.disk_bytes is not None and self.disk_bytes > free


def make_plan(
    config: TrainingConfig,
    data: Sequence[DataFacts],
    model: ModelFacts,
    method: MethodPreset,
    machine: Machine,
    *,
    separate_validation_rows: int | None = None,
    download_bytes: int = 0,
    asked_rows: int = 0,
    remark: str = "",
    measurement: Measurement | None = None,
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
        download_bytes: What has to be downloaded first.
        asked_rows: General examples that the base model has to be asked about first.
        remark: What the person should know of the model; empty for nothing.
        measurement: A test drive with these settings, if there was one.
    """
    # Graphics cards that compute in bf16 have an attention for rows of different length.
    padded = (
        method.padded
        or config.neftune_alpha > 0
        or not attends_to_all(model.architecture)
        or (machine.device == "cuda" and _precision(config, machine)[0] == "fp32")
    )
    choices, work = settle(config, data, model, method, separate_validation_rows, padded=padded)
    if measurement and config.precision == "auto":
        reason = "the test drive found it quicker here"
        machine = replace(machine, precision=measurement.precision, precision_reason=reason)
    memory = _fit_into_memory(choices, work, model, method, machine)
    estimated = memory.peak_bytes if memory else None
    peak = measurement.peak_memory_bytes if measurement else estimated
    asked_tokens = asked_rows * GENERAL_TOKENS if config.keep_general else 0
    answered_tokens = _answered_tokens(choices.config, work)
    unpacks = model.base_of(method) != "plain" and machine.device == "cpu"
    decoding_step_tokens = PACKED_DECODING_STEP_TOKENS if unpacks else DECODING_STEP_TOKENS
    read_tokens = asked_tokens + decoding_step_tokens * answered_tokens
    seconds, step_seconds, source = _seconds(
        choices.config, method, work, model, machine, measurement, read_tokens
    )
    return Plan(
        config=choices.config,
        reasons=choices.reasons,
        work=work,
        seconds=seconds,
        step_seconds=step_seconds,
        seconds_source=source,
        evaluation_seconds=_evaluation_seconds(
            choices.config,
            work,
            _tokens_per_second(method, model, machine, measurement)[0],
            decoding_step_tokens,
        ),
        too_long_rows=_too_long_rows(choices.config.limit_tokens, data),
        memory=memory,
        peak_memory_bytes=peak,
        fit=_fit(peak, machine),
        disk_bytes=_disk_bytes(choices.config, model, method, download_bytes),
        machine=machine,
        precision=_precision(choices.config, machine),
        measurement=measurement,
        warnings=(
            *([remark] if remark else []),
            *_size_warnings(model, machine),
            *find_warnings(choices.config, work.validation_rows),
        ),
    )


def _fit_into_memory(
    choices: Choices, work: Workload, model: ModelFacts, method: MethodPreset, machine: Machine
) -> Memory | None:
    """Choose what depends on memory; return what is needed then."""

    def needed(budget: int, checkpointing: str) -> Memory | None:
        tokens = max(work.longest_row_tokens, min(budget, work.hardest_tokens))
        return estimate_memory(
            choices.config,
            model,
            method,
            micro_batch_tokens=tokens,
            supervised_tokens=round(tokens * work.supervised_share),
            longest_row_tokens=work.longest_row_tokens,
            shared_start=work.shared_start,
            device=machine.device,
            precision=_precision(choices.config, machine)[0],
            recomputed_share=RECOMPUTED_SHARES[checkpointing],
            has_liger=machine.has_liger,
            follows_another=work.hardest_tokens > tokens,
            general_tokens=min(budget, work.tokens_per_step - work.own_per_step),
        )

    given_tokens = choices.config.micro_batch_tokens
    given = choices.config.activation_checkpointing
    reason = "it is quick and fits into memory"
    budgets: tuple[int, ...] = MICRO_BATCH_TOKENS[machine.device]
    if needed(budgets[0], "off") is None:
        budgets, reason = budgets[-1:], "how much memory more would take is not known"
    for budget, checkpointing in (
        *((tokens, "off") for tokens in budgets),
        *((budgets[-1] // 2, share) for share in RECOMPUTED_SHARES),
        (budgets[-1] // 4, "on"),
    ):
        only_with_plenty = budget > budgets[-1] and not given_tokens
        budget = given_tokens or budget
        checkpointing = given or (checkpointing if method.recomputes else "off")
        memory = needed(budget, checkpointing)
        fits = _fit(memory.peak_bytes if memory else None, machine) in ("fits", "unknown")
        if fits and not (only_with_plenty and _has_to_hand_back(memory, machine)):
            break
        reason = "with a larger one, memory would be short"
    choices.propose("micro_batch_tokens", budget, reason)
    reason = _checkpointing_reason(checkpointing, method)
    choices.propose("activation_checkpointing", checkpointing, reason)
    return memory


def _size_warnings(model: ModelFacts, machine: Machine) -> list[str]:
    if machine.device == "cuda" or (model.parameters or 0) < SLOW_WITHOUT_A_CARD:
        return []
    size = f"{(model.parameters or 0) / 1e9:.1f}"
    return [
        f"This computer has no graphics card that can be used, and a model of {size} billion weights is slow without "
        "one, in training and in the chat."
    ]


def _precision(config: TrainingConfig, machine: Machine) -> tuple[Precision, str]:
    """Return the number format it will compute in, and why."""
    if config.precision != "auto":
        return config.precision, "you chose it"
    return machine.precision, machine.precision_reason


def _checkpointing_reason(checkpointing: str, method: MethodPreset) -> str:
    if not method.recomputes:
        return f"{method.label} cannot compute its layers twice"
    if checkpointing == "off":
        return "it fits without"
    return f"{SHARE_WORDS[checkpointing]} have to be computed twice to fit into memory"


def _fit(peak_bytes: int | None, machine: Machine) -> Fit:
    if peak_bytes is None or machine.free_memory_bytes is None:
        return "unknown"
    if peak_bytes > machine.free_memory_bytes:
        return "will not fit"
    return "tight" if peak_bytes > TIGHT * machine.free_memory_bytes else "fits"


def _has_to_hand_back(memory: Memory | None, machine: Machine) -> bool:
    """Say whether freed memory has to be given back at once, which is slower, because there is not plenty of it."""
    free = machine.free_memory_bytes
    if machine.device == "cuda" or memory is None or free is None:
        return False
    return ALLOCATOR_SURPLUS * memory.peak_bytes > free


def _disk_bytes(
    config: TrainingConfig, model: ModelFacts, method: MethodPreset, download_bytes: int
) -> int | None:
    """Return what is written: the checkpoints kept, the best, one until the next is complete, and the model."""
    shape = Shape.of(model.architecture)
    if shape is None:
        return None
    stored = _stored_weights(shape, config, method)
    checkpoint = _checkpoint_bytes(shape, config, method)
    saved = 2 * stored if method.saves == "model" else 4 * stored
    return round((config.checkpoints_kept + 2) * checkpoint + saved) + download_bytes


def _stored_weights(shape: Shape, config: TrainingConfig, method: MethodPreset) -> float:
    return shape.weights if method.saves == "model" else trained_weights(shape, config)


def _checkpoint_bytes(shape: Shape, config: TrainingConfig, method: MethodPreset) -> float:
    """Return what one checkpoint has: fp32, with Adam's two notes for what learns."""
    return 4 * _stored_weights(shape, config, method) + 8 * trained_weights(shape, config)


def _writing_seconds(
    config: TrainingConfig, work: Workload, model: ModelFacts, method: MethodPreset
) -> float:
    """Return how long training waits for checkpoints."""
    shape = Shape.of(model.architecture)
    if shape is None:
        return 0.0
    checkpoints = math.ceil(work.total_steps / max(1, config.save_steps or 1))
    if work.validation_rows:  # a check that was the best so far is kept, too
        checkpoints = max(checkpoints, _checks(config, work))
    return checkpoints * _checkpoint_bytes(shape, config, method) / CHECKPOINT_BYTES_PER_SECOND


def _too_long_rows(longest_tokens: int, data: Sequence[DataFacts]) -> int | None:
    lengths = [part.token_lengths for part in data if part.token_lengths is not None]
    if len(lengths) < len(data):
        return None
    return sum(int((of_part > longest_tokens).sum()) for of_part in lengths)


def _seconds(
    config: TrainingConfig,
    method: MethodPreset,
    work: Workload,
    model: ModelFacts,
    machine: Machine,
    measurement: Measurement | None,
    read_tokens: float,
) -> tuple[float | None, float | None, str]:
    """Return all seconds, those of a step, and where they come from.

    ``read_tokens`` are read once, besides what checks and general examples read.
    """
    speed, source = _tokens_per_second(method, model, machine, measurement)
    if speed is None:
        return None, None, source
    measured = measurement or machine.measured_tokens_per_second
    slowdown = 1 if measured else 1 + RECOMPUTING_SLOWDOWN * config.recomputed_share
    step_seconds = slowdown * work.computed_per_step / speed
    fixed = STARTING_SECONDS + (measurement.loading_seconds if measurement else LOADING_SECONDS)
    fixed += _writing_seconds(config, work, model, method)
    checked = (1 + _checks(config, work)) * work.validation_rows * work.own_tokens
    checked += GENERAL_CHECK_TOKENS + read_tokens
    return (
        fixed + work.total_steps * step_seconds + FORWARD_SHARE * checked / speed,
        step_seconds,
        source,
    )


def _answered_tokens(config: TrainingConfig, work: Workload) -> int:
    """Return how many tokens the answers to the watched questions have; rows are answered side by side."""
    own = bool(config.watched_questions.strip())
    if not (config.watched_rows or own):
        return 0
    times = _checks(config, work) if work.validation_rows else 1  # the last is after the last step
    return (1 + times) * WATCHED_ANSWER_TOKENS


def _checks(config: TrainingConfig, work: Workload) -> int:
    """Return how often rows that were held back are looked at after the beginning."""
    return math.ceil(work.total_steps / max(1, config.eval_steps or 1))


def evaluated_rows(config: TrainingConfig, work: Workload) -> int:
    """Return how many rows that were held back are asked when training has ended."""
    return min(config.evaluate_after, work.validation_rows)


def _evaluation_seconds(
    config: TrainingConfig, work: Workload, speed: float | None, decoding_step_tokens: int
) -> float | None:
    """Return how long base and tuned are asked about the rows held back, at so many tokens of training a second."""
    rows = evaluated_rows(config, work)
    if not rows:
        return 0.0
    if speed is None:
        return None
    longest_tokens = longest_answer_tokens(work.longest_row_tokens * work.supervised_share)
    decoding_steps = math.ceil(rows / ASKED_TOGETHER) * longest_tokens
    written = decoding_steps * decoding_step_tokens + rows * longest_tokens
    read_tokens = 2 * (rows * work.own_tokens + written) + GENERAL_CHECK_TOKENS
    return STARTING_SECONDS + LOADING_SECONDS + FORWARD_SHARE * read_tokens / speed


def _tokens_per_second(
    method: MethodPreset, model: ModelFacts, machine: Machine, measurement: Measurement | None
) -> tuple[float | None, str]:
    if measurement:
        return measurement.tokens_per_second, "measured in a test drive"
    if machine.measured_tokens_per_second:
        return machine.measured_tokens_per_second, "from your last run with this model and method"
    if machine.device == "cuda" or model.parameters is None or model.has_experts:
        return None, "not known before a test drive or the first run with this model"
    per_token: float = OPERATIONS_PER_WEIGHT[method.saves] * model.parameters
    if model.base_of(method) != "plain":
        per_token *= UNPACKING_CPU_SLOWDOWN
    speed = CPU_OPERATIONS_PER_SECOND * machine.cpu_cores / per_token
    return speed, f"estimated for {machine.cpu_cores} CPU cores"
