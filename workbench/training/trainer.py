"""``transformers.Trainer`` with our step: token-budget micro-batches, loss on the answers only.

Trainer keeps the optimizer, the schedule, clipping, checkpoints and resume.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch.nn.functional import cross_entropy, pad
from transformers import Trainer, TrainerControl

from workbench.compute import Compute
from workbench.errors import WorkbenchError
from workbench.models.rendering import TokenizedExample
from workbench.training.batches import MicroBatch, micro_batches, supervised_tokens
from workbench.training.general import GeneralSkills


class ExampleList(torch.utils.data.Dataset[TokenizedExample]):
    """The tokenized examples, as Trainer wants them."""

    def __init__(self, examples: Sequence[TokenizedExample]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> TokenizedExample:
        return self._examples[index]


class WorkbenchTrainer(Trainer):
    """A Trainer whose batch is a whole optimizer step.

    Args:
        compute: Device and precision.
        token_budget: Tokens in one forward pass; does not change the result.
        padded: The model cannot run padding-free.
        on_step: Told tokens and seconds of each step, before Trainer logs it.
        validation: The examples held back, by the name of their dataset; may be empty.
        general: What keeps general skills, and how many of its examples go with a step; or ``None``.
        label_smoothing: For training; validation losses stay comparable without it.
        regularizer: Added to the loss of every step, or ``None``.
        **arguments: As for ``transformers.Trainer``.
    """

    control: TrainerControl

    def __init__(
        self,
        *,
        compute: Compute,
        token_budget: int,
        padded: bool,
        on_step: Callable[[int, float], None],
        validation: Mapping[str, Sequence[TokenizedExample]],
        general: tuple[GeneralSkills, int] | None = None,
        label_smoothing: float = 0.0,
        regularizer: Callable[[torch.nn.Module], torch.Tensor] | None = None,
        **arguments: Any,
    ) -> None:
        held_back = [example for examples in validation.values() for example in examples]
        super().__init__(
            data_collator=lambda examples: {"examples": examples},
            eval_dataset=ExampleList(held_back) if held_back else None,
            **arguments,
        )
        self._validation = {name: examples for name, examples in validation.items() if examples}
        self._compute = compute
        self._token_budget = token_budget
        self._padded = padded
        self._on_step = on_step
        self._general = general
        self._label_smoothing = label_smoothing
        self._regularizer = regularizer
        self._pad_id = self.processing_class.pad_token_id or 0

    def training_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """Compute the gradient of one whole optimizer step.

        Args:
            model: In the precision of the run.
            inputs: ``examples``: the examples of the step.
            num_items_in_batch: Trainer's own count; not used, because it counts padding-free
                labels differently.

        Returns:
            The mean loss over the step's supervised tokens, a float32 scalar; without the part that
            keeps general skills.
        """
        started = time.perf_counter()
        model.train()
        examples: list[TokenizedExample] = inputs["examples"]
        count = supervised_tokens(examples)
        total = torch.zeros((), device=self.args.device)
        for batch in self._micro_batches(examples):
            loss = summed_loss(model, batch, self._compute, self._label_smoothing) / count
            self.accelerator.backward(loss)
            total += loss.detach()
        if not torch.isfinite(total):
            raise WorkbenchError(
                f"The loss was not a number at step {self.state.global_step + 1}: training has diverged.",
                "Lower the learning rate, to a third for a start.",
            )
        if self._regularizer:
            self.accelerator.backward(self._regularizer(model))
        general = self._hold_general_skills(model)
        tokens = sum(len(example.input_ids) for example in [*examples, *general])
        self._on_step(tokens, time.perf_counter() - started)
        return total

    def _hold_general_skills(self, model: torch.nn.Module) -> list[TokenizedExample]:
        """Add the gradient of the step's general examples; return them."""
        if self._general is None:
            return []
        skills, count = self._general
        examples = skills.examples_of_step(self.state.global_step, count)
        for batch in self._micro_batches(examples):
            logits = supervised_logits(model, batch, self._compute)
            divergence = skills.summed_divergence(logits, batch)
            self.accelerator.backward(divergence / supervised_tokens(examples))
        return examples

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return ``eval_loss``, the mean over all supervised tokens of the validation rows.

        ``eval_by_dataset`` has the same for each dataset where there are several.
        """
        started = time.perf_counter()
        totals = {
            name: total_loss(self.model, self._micro_batches(examples), self._compute)
            for name, examples in self._validation.items()
        }
        by_dataset = {name: total / count for name, (total, count) in totals.items()}
        sums, counts = zip(*totals.values(), strict=True)
        metrics: dict[str, Any] = {
            "eval_loss": sum(sums) / sum(counts),
            "eval_by_dataset": by_dataset if len(by_dataset) > 1 else {},
            "eval_runtime": time.perf_counter() - started,
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save as Trainer does, without the pickle of its arguments: config.yaml has them all."""
        super()._save(output_dir, state_dict)
        Path(output_dir or self.args.output_dir, "training_args.bin").unlink(missing_ok=True)

    def _micro_batches(self, examples: Sequence[TokenizedExample]) -> Any:
        return micro_batches(examples, self._token_budget, padded=self._padded, pad_id=self._pad_id)


def summed_loss(
    model: torch.nn.Module, batch: MicroBatch, compute: Compute, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Return the sum of the token losses of one micro-batch, a float32 scalar."""
    logits = supervised_logits(model, batch, compute)
    targets = batch.targets.to(logits.device)
    return cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)


def supervised_logits(model: torch.nn.Module, batch: MicroBatch, compute: Compute) -> torch.Tensor:
    """Return float32 (supervised positions, vocabulary): what the model expects to come next.

    Logits are computed at supervised positions only: the model's head is the largest layer.
    """
    inputs = {
        name: value.to(compute.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.inputs.items()
    }
    # Prompt tuning puts its tokens in front of every row, so the model has that many positions more.
    supervised = pad(batch.supervised, (positions_in_front(model), 0)).to(compute.device)
    with compute.autocast():
        logits = model(**inputs, logits_to_keep=supervised).logits
    return logits.float()


def positions_in_front(model: torch.nn.Module) -> int:
    """Return how many positions a model adds in front of each row; prefix tuning adds none."""
    adapter: Any = model.active_peft_config if isinstance(model, PeftModel) else None
    adds = adapter is not None and adapter.peft_type in (PeftType.PROMPT_TUNING, PeftType.P_TUNING)
    return adapter.num_virtual_tokens if adds else 0


def mean_loss(model: torch.nn.Module, batches: Iterable[MicroBatch], compute: Compute) -> float:
    """Return the mean loss over all supervised tokens, with the model in evaluation mode."""
    total, count = total_loss(model, batches, compute)
    return total / count


def total_loss(
    model: torch.nn.Module, batches: Iterable[MicroBatch], compute: Compute
) -> tuple[float, int]:
    """Return the sum of all token losses and how many there are, with the model in evaluation mode."""
    model.eval()
    with torch.no_grad():
        counted = [
            (summed_loss(model, batch, compute).item(), len(batch.targets)) for batch in batches
        ]
    return sum(loss for loss, _ in counted), sum(count for _, count in counted)
