"""What a model's answers cost: the one place where training and evaluation run it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel, PeftType
from torch.nn.functional import cross_entropy, pad

from workbench.compute import Compute
from workbench.training.batches import MicroBatch
from workbench.training.head import Cost, Head, sliced_cross_entropy

# How far the two ways to the logits may be apart, as a share of the largest one, in the number format with the
# fewest digits. A factor that a model applies after its head and we did not know of is far more.
SAME = 0.02


@dataclass(frozen=True)
class AnswerLoss:
    """A model and how to compute what its answers cost.

    Attributes:
        model: In the precision of the run.
        compute: Device and precision.
        head: Its head, where the loss can be worked out a slice at a time; ``None`` takes all logits at once.
    """

    model: Any
    compute: Compute
    head: Head | None = None

    @classmethod
    def of(cls, model: Any, compute: Compute, batch: MicroBatch) -> AnswerLoss:
        """Return it with the model's head, if slices of it give the model's own logits in ``batch``."""
        whole = cls(model, compute)
        head = Head.of(model)
        if head is None:
            return whole
        was_training = model.training
        model.eval()
        with torch.no_grad():
            expected = whole.logits(batch)
            found = head.logits(whole._hidden(head, batch))
        model.train(was_training)
        same = (found - expected).abs().max() <= SAME * expected.abs().max()
        return cls(model, compute, head) if same else whole

    def of_tuned(self, model: Any) -> AnswerLoss:
        """Return the same for what a method made of the model; a head it changed is taken whole."""
        kept = self.head is not None and model.get_output_embeddings() is self.head.layer
        return AnswerLoss(model, self.compute, self.head if kept else None)

    def cost(self, batch: MicroBatch, label_smoothing: float = 0.0) -> Cost:
        """Return the summed cross-entropy over a micro-batch's supervised tokens."""
        targets = batch.targets.to(self.compute.device)
        if self.head is not None:
            hidden = self._hidden(self.head, batch)
            return sliced_cross_entropy(self.head, hidden, targets, label_smoothing)
        logits = self.logits(batch)
        loss = cross_entropy(logits, targets, reduction="sum", label_smoothing=label_smoothing)
        return Cost(loss, (logits.argmax(dim=-1) == targets).sum())

    def logits(self, batch: MicroBatch) -> torch.Tensor:
        """Return float32 (supervised positions, vocabulary): what the model expects to come next."""
        return self._forward(batch).float()

    def mean(self, batches: Iterable[MicroBatch]) -> float:
        """Return the mean loss over all supervised tokens, with the model in evaluation mode."""
        loss, _, tokens = self.total(batches)
        return loss / tokens

    def total(self, batches: Iterable[MicroBatch]) -> tuple[float, int, int]:
        """Return the sum of all token losses, how many predictions were right, and how many there were.

        Leaves the model in evaluation mode.
        """
        self.model.eval()
        loss, correct, tokens = 0.0, 0, 0
        with torch.no_grad():
            for batch in batches:
                cost = self.cost(batch)
                loss += cost.loss.item()
                correct += int(cost.correct)
                tokens += len(batch.targets)
        return loss, correct, tokens

    def _hidden(self, head: Head, batch: MicroBatch) -> torch.Tensor:
        with head.catch_hidden_states() as caught:
            self._forward(batch)
        return caught[0].to(self.compute.dtype)

    def _forward(self, batch: MicroBatch) -> torch.Tensor:
        """Run the model; logits at supervised positions only, because the head is its largest layer."""
        device = self.compute.device
        inputs = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in batch.inputs.items()
        }
        # Prompt tuning puts its tokens in front of every row, so the model has that many positions more.
        supervised = pad(batch.supervised, (positions_in_front(self.model), 0)).to(device)
        with self.compute.autocast():
            logits: torch.Tensor = self.model(**inputs, logits_to_keep=supervised).logits
        return logits


def positions_in_front(model: torch.nn.Module) -> int:
    """Return how many positions a model adds in front of each row; prefix tuning adds none."""
    adapter: Any = model.active_peft_config if isinstance(model, PeftModel) else None
    adds = adapter is not None and adapter.peft_type in (PeftType.PROMPT_TUNING, PeftType.P_TUNING)
    return adapter.num_virtual_tokens if adds else 0
