"""When it does not fit: say what is short, and find what would help by planning again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from workbench.config import TrainingConfig
from workbench.errors import WorkbenchError
from workbench.models.catalogue import catalogue
from workbench.plan import Plan
from workbench.presets import methods
from workbench.words import describe_bytes

SHORTER_LENGTHS = (512, 256)
MOST_MODELS = 2
SMALLEST_PIECE_TOKENS = 128


@dataclass(frozen=True)
class Remedy:
    """A change that makes it fit: what the button says, and the settings it sets."""

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)


def find_shortage(plan: Plan, force_hint: str = "") -> WorkbenchError | None:
    """Return what memory or disk cannot hold, as an error to raise; ``None`` when all fits.

    Args:
        plan: What is to be done.
        force_hint: A sentence on how to start all the same, where that is possible.
    """
    if plan.fit == "will not fit":
        assert plan.peak_memory_bytes is not None
        assert plan.machine.free_memory_bytes is not None
        return WorkbenchError(
            f"This needs about {describe_bytes(plan.peak_memory_bytes)} of memory, and "
            f"{plan.machine.device_name} has {describe_bytes(plan.machine.free_memory_bytes)} free.",
            f"Close other programs, or take one of the changes the plan offers. {force_hint}".strip(),
        )
    if plan.disk_is_short:
        assert plan.disk_bytes is not None
        assert plan.machine.free_disk_bytes is not None
        return WorkbenchError(
            f"This writes about {describe_bytes(plan.disk_bytes)}, and the disk has "
            f"{describe_bytes(plan.machine.free_disk_bytes)} free.",
            f"Delete old runs or models, or choose a smaller model. {force_hint}".strip(),
        )
    return None


def find_remedies(
    config: TrainingConfig, plan_again: Callable[[TrainingConfig], Plan]
) -> list[Remedy]:
    """Return the changes that make a run fit into memory, the least harmful first.

    Args:
        config: The settings that do not fit.
        plan_again: Makes the plan of changed settings.
    """

    def helps(remedy: Remedy) -> bool:
        try:
            return plan_again(config.model_copy(update=dict(remedy.changes))).fit in (
                "fits",
                "tight",
            )
        except WorkbenchError:
            return False  # it cannot be combined with the rest

    found = [remedy for remedy in _candidates(config) if helps(remedy)]
    smaller = (remedy for remedy in _smaller_models(config) if helps(remedy))
    return found + list(islice(smaller, MOST_MODELS))


def safer_copy(config: TrainingConfig, cause: str) -> Remedy | None:
    """Return what to change so that a run does not fail again as it did; ``None`` where nothing would help.

    Args:
        config: The settings it failed with, every one chosen.
        cause: As in ``FinishedEvent``.
    """
    if cause == "memory":
        budget = config.token_budget
        tokens = min(budget, max(SMALLEST_PIECE_TOKENS, budget // 4))
        changes: dict[str, Any] = {"micro_batch_tokens": tokens}
        safer = [f"{tokens:,} tokens at a time instead of {budget:,}"] if tokens < budget else []
        if methods()[config.method].recomputes and config.activation_checkpointing != "on":
            changes["activation_checkpointing"] = "on"
            safer += [] if safer else ["layers computed twice instead of kept"]
        if config.limit_tokens > tokens:
            changes |= {"max_length": tokens, "too_long": "cut"}
            safer.append(f"texts cut at {tokens:,}")
        return Remedy(f"Start a safer copy: {', '.join(safer)}", changes) if safer else None
    if cause == "diverged" and config.learning_rate:
        rate = float(f"{config.learning_rate / 3:.1g}")
        label = f"Start a safer copy: learning rate {rate:g} instead of {config.learning_rate:g}"
        return Remedy(label, {"learning_rate": rate})
    if cause == "damaged":
        return Remedy("Start a copy from the beginning", {})
    return None


def _candidates(config: TrainingConfig) -> list[Remedy]:
    found = []
    if config.micro_batch_tokens or config.activation_checkpointing:
        automatic = {"micro_batch_tokens": None, "activation_checkpointing": None}
        found.append(Remedy("Compute in smaller pieces", automatic))
    found += [
        Remedy(f"Read at most {tokens} tokens of a row", {"max_length": tokens, "too_long": "cut"})
        for tokens in SHORTER_LENGTHS
        if config.max_length is None or config.max_length > tokens
    ]
    offered = methods()
    if offered[config.method].saves == "model":
        found.append(Remedy("Train an adapter instead (LoRA)", {"method": "lora"}))
    if offered[config.method].base != "nf4":
        found.append(Remedy("Squeeze the model to 4 bits (QLoRA)", {"method": "qlora"}))
    return found


def _smaller_models(config: TrainingConfig) -> list[Remedy]:
    entries = catalogue()
    size = entries[config.model].parameters if config.model in entries else float("inf")
    smaller = [
        (name, entry)
        for name, entry in entries.items()
        if entry.parameters < size and entry.kind != "base" and not entry.gated
    ]
    return [Remedy(f"Take {entry.label}", {"model": name}) for name, entry in reversed(smaller)]
