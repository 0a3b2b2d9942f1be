"""``transformers.Trainer`` with our step: token-budget micro-batches, loss on the answers only.

Trainer keeps the optimizer, the schedule, clipping, checkpoints and resume.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate.data_loader import BatchSamplerShard
from transformers import Trainer, TrainerControl, TrainerState
from transformers.trainer import TRAINER_STATE_NAME

from workbench.errors import StopRequested
from workbench.failures import is_disk_full, is_out_of_memory
from workbench.models.rendering import TokenizedExample
from workbench.runs.checkpoints import Checkpoint, keep_only, mark_complete, newest_checkpoint
from workbench.training.batches import MicroBatch, micro_batches, supervised_tokens, until_stopped
from workbench.training.failures import Diverged
from workbench.training.general import GeneralSkills
from workbench.training.learning_state import LearningState, keep_projectors
from workbench.training.loss import AnswerLoss
from workbench.training.rank_allocation import RankAllocation, orthogonality
from workbench.training.team import ALONE, Team

T = TypeVar("T")
SMALLEST_BUDGET_TOKENS = 64  # with less, memory is short for another reason


@dataclass(frozen=True)
class StepFigures:
    """Size, duration and accuracy of one optimizer step.

    Attributes:
        tokens: Tokens computed, those of general examples included, padding not.
        seconds: For forward and backward passes.
        token_accuracy: Share of the supervised tokens with a finite loss that the model thought likeliest; NaN without any.
    """

    tokens: int
    seconds: float
    token_accuracy: float


class StepSums(NamedTuple):
    """What a step adds up: of this process's part, or of the whole team's."""

    loss: float | torch.Tensor  # summed cross-entropy of the finite tokens, in nats
    correct: float | torch.Tensor  # finite tokens that the model thought likeliest
    finite_tokens: float  # supervised tokens whose loss was a number
    computed_tokens: float  # those of general examples included, padding not
    lost_examples: float  # general examples whose cost was not a number


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
        loss: The model that trains, with its device and precision.
        token_budget: Tokens in one forward pass; does not change the result. Halved when memory is short.
        padded: The model cannot run padding-free.
        on_step: Told about each step before Trainer logs it.
        on_warning: Told in words what the person should know.
        validation: The examples held back, by the name of their dataset; may be empty.
        general: What keeps general skills, and how many of its examples go with a step; or ``None``.
        stop_requested: Asked between micro-batches of an evaluation, which ends without a result then.
        checkpoints_kept: How many of the newest checkpoints stay, besides the best one.
        label_smoothing: For training; validation losses stay comparable without it.
        learning_state: What checkpoints of the method lack, or ``None``.
        team: The processes that train together.
        **arguments: As for ``transformers.Trainer``.
    """

    control: TrainerControl

    def __init__(
        self,
        *,
        loss: AnswerLoss,
        token_budget: int,
        padded: bool,
        on_step: Callable[[StepFigures], None],
        on_warning: Callable[[str], None],
        validation: Mapping[str, Sequence[TokenizedExample]],
        general: tuple[GeneralSkills, int] | None = None,
        stop_requested: Callable[[], bool] = lambda: False,
        checkpoints_kept: int = 1,
        label_smoothing: float = 0.0,
        learning_state: LearningState | None = None,
        team: Team = ALONE,
        **arguments: Any,
    ) -> None:
        held_back = [example for examples in validation.values() for example in examples]
        super().__init__(
            model=loss.model,
            data_collator=lambda examples: {"examples": examples},
            eval_dataset=ExampleList(held_back) if held_back else None,
            **arguments,
        )
        self._validation = {name: examples for name, examples in validation.items() if examples}
        self._loss = loss
        self._token_budget = token_budget
        self._padded = padded
        self._on_step = on_step
        self._on_warning = on_warning
        self._general = general
        self._stop_requested = stop_requested
        self._checkpoints_kept = checkpoints_kept
        self._label_smoothing = label_smoothing
        self._learning_state = learning_state
        self._team = team
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
        self.model.train()
        examples: list[TokenizedExample] = inputs["examples"]
        budget_tokens = self._token_budget
        own = self._within_memory(lambda: self._add_gradient(examples), f"at step {self._step_now}")
        was_short = self._token_budget < budget_tokens
        *of_all, short = self._team.sums(*own, was_short)
        sums = StepSums(*of_all)
        if short > was_short:
            self._on_warning(f"Memory was short in another process at step {self._step_now}.")
        if sums.lost_examples:
            self._on_warning(
                f"Step {self._step_now} left out {sums.lost_examples:,.0f} general examples: "
                "what they cost was not a number."
            )
        self._team.add_gradients(self.model.parameters())
        accuracy = sums.correct / sums.finite_tokens if sums.finite_tokens else math.nan
        self._on_step(
            StepFigures(int(sums.computed_tokens), time.perf_counter() - started, accuracy)
        )
        self._report_lost_tokens(int(sums.finite_tokens), supervised_tokens(examples))
        return torch.tensor(sums.loss / sums.finite_tokens, device=self.args.device)

    def _add_gradient(self, examples: Sequence[TokenizedExample]) -> StepSums:
        """Add all that this process contributes to the gradient of a step, general examples included."""
        learned = self._learn(examples)
        if isinstance(self._learning_state, RankAllocation) and self._team.is_first:
            self.accelerator.backward(orthogonality(self.model))
        general_tokens, lost_examples = self._hold_general_skills()
        return learned._replace(
            computed_tokens=learned.computed_tokens + general_tokens, lost_examples=lost_examples
        )

    def _within_memory(self, work: Callable[[], T], when: str) -> T:
        """Do some work; where memory is short, do it again in smaller pieces, which changes no result.

        ``when`` that is, the person is told.
        """
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self._token_budget <= SMALLEST_BUDGET_TOKENS:
                    raise
            self._halve_budget(when)

    @property
    def _step_now(self) -> int:
        return self.state.global_step + 1

    def _learn(self, examples: Sequence[TokenizedExample]) -> StepSums:
        """Add the gradient of this process's part of a step's examples."""
        supervised = supervised_tokens(examples)
        finite_tokens, computed_tokens = 0, 0
        loss = torch.zeros((), device=self.args.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.args.device)
        for batch in self._micro_batches(self._team.part(examples)):
            computed_tokens += batch.tokens
            cost = self._loss.cost(batch, self._label_smoothing)
            if not torch.isfinite(cost.loss):
                continue
            self.accelerator.backward(cost.loss / supervised)
            loss += cost.loss.detach()
            correct += cost.correct
            finite_tokens += len(batch.targets)
        return StepSums(loss, correct, finite_tokens, computed_tokens, lost_examples=0)

    def _report_lost_tokens(self, finite: int, supervised: int) -> None:
        """Say it when a loss was not a number.

        Args:
            finite: The step's supervised tokens whose loss was one.
            supervised: All of them.

        Raises:
            Diverged: None was.
        """
        step = self._step_now
        if not finite:
            self._log_lost_step()
            raise Diverged(
                f"The loss was not a number at step {step}: training has diverged.",
                "Lower the learning rate, to a third for a start.",
            )
        if finite < supervised:
            self._on_warning(
                f"Step {step} left out {supervised - finite:,} of {supervised:,} tokens: their loss was not a number."
            )

    def _log_lost_step(self) -> None:
        """Log the step that ends the run, which Trainer does not: so the curve shows where it broke."""
        self.state.global_step += 1
        self.state.epoch += 1 / len(self.callback_handler.train_dataloader)
        self.log({"loss": math.nan, "learning_rate": self._get_learning_rate()})

    def _hold_general_skills(self) -> tuple[int, int]:
        """Add the gradient of the step's general examples.

        Returns:
            How many tokens were computed, and how many examples left out because their cost was not a number.
        """
        if self._general is None:
            return 0, 0
        tokens, lost = 0, 0
        skills, count = self._general
        examples = skills.examples_of_step(self.state.global_step, count)
        for batch in self._micro_batches(self._team.part(examples)):
            tokens += batch.tokens
            divergence = skills.summed_divergence(self._loss.logits(batch), batch)
            if not torch.isfinite(divergence):
                lost += len(batch.examples)
                continue
            self.accelerator.backward(divergence / supervised_tokens(examples))
        return tokens, lost

    def _halve_budget(self, when: str) -> None:
        """Forget what the step has so far, and try it in smaller pieces: its gradient stays the same."""
        self._token_budget //= 2
        self.model.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._on_warning(
            f"Memory was short {when}, so the computer now reads "
            f"{self._token_budget:,} tokens at a time. The result is the same."
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return ``eval_loss``, the mean over all supervised tokens of the validation rows.

        ``eval_by_dataset`` has the same for each dataset where there are several. Empty when the person asked
        to stop meanwhile, which the callbacks see; several processes go on to its end, because each needs the
        part of the others.
        """
        started = time.perf_counter()
        try:
            totals = {name: self._total(examples) for name, examples in self._validation.items()}
        except StopRequested:
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, {}
            )
            return {}
        by_dataset = {name: loss / supervised for name, (loss, _, supervised) in totals.items()}
        losses, correct, supervised = zip(*totals.values(), strict=True)
        metrics: dict[str, Any] = {
            "eval_loss": sum(losses) / sum(supervised),
            "eval_token_accuracy": sum(correct) / sum(supervised),
            "eval_by_dataset": by_dataset if len(by_dataset) > 1 else {},
            "eval_runtime": time.perf_counter() - started,
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False
    ) -> dict[str, Any]:
        """Check as Trainer does; it skips the scheduler when it checks before the first step.

        That makes up for the check that a stop prevented at the checkpoint which the run goes on from.

        Raises:
            StopRequested: The person asked to stop again, before the first step.
        """
        metrics = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        if skip_scheduler:
            if not metrics:
                raise StopRequested
            self._determine_best_metric(metrics, trial)
        return metrics

    def mean_loss(self, examples: Sequence[TokenizedExample]) -> float:
        """Return the mean loss over all supervised tokens of some examples.

        Raises:
            StopRequested: The person asked to stop meanwhile.
        """
        loss, _, tokens = self._total(examples)
        return loss / tokens

    def _total(self, examples: Sequence[TokenizedExample]) -> list[float]:
        """Return summed loss, right predictions and supervised tokens of examples."""

        def of_own_part() -> tuple[float, int, int]:
            batches = self._micro_batches(self._team.part(examples))
            if self._team.size == 1:
                batches = until_stopped(batches, self._stop_requested)
            return self._loss.total(batches)

        return self._team.sums(*self._within_memory(of_own_part, "in a check"))

    def get_train_dataloader(self) -> torch.utils.data.DataLoader[Any]:
        """Give every process whole steps: what is its part, ``training_step`` says."""
        loader = super().get_train_dataloader()
        if isinstance(loader.batch_sampler, BatchSamplerShard):
            loader.batch_sampler.num_processes, loader.batch_sampler.process_index = 1, 0
        return loader

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Make it as Trainer does, so that a checkpoint can keep its state."""
        optimizer = super().create_optimizer(model)
        keep_projectors(optimizer)
        return optimizer

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Give the model the weights of a checkpoint; optimizer and schedule stay as they are."""
        self._load_from_checkpoint(str(checkpoint.directory))

    def take_up(self, checkpoint: Checkpoint) -> None:
        """Be where training was at its last checkpoint, with no step left; a check that was prevented is made up for."""
        self.load_weights(checkpoint)
        self.state = TrainerState.load_from_json(str(checkpoint.directory / TRAINER_STATE_NAME))
        if self.args.eval_on_start:
            self.evaluate()

    def _determine_best_metric(self, metrics: dict[str, Any], trial: Any) -> bool:
        """Keep a checkpoint of the best validation loss, whenever it comes."""
        is_best = bool(metrics) and super()._determine_best_metric(metrics, trial)
        self.control.should_save = self.control.should_save or is_best
        return is_best

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save as Trainer does; the folder counts once it is complete. A full disk does not end the run."""
        checkpoints_dir, step = Path(self.args.output_dir), self.state.global_step
        directory = checkpoints_dir / f"checkpoint-{step}"
        try:
            super()._save_checkpoint(model, trial)
            self._team.wait()  # each process writes a part of the folder
            if not self._team.is_first:
                return
            mark_complete(directory)
        except Exception as error:
            shutil.rmtree(directory, ignore_errors=True)
            if not is_disk_full(error) or self._team.size > 1:
                raise
            self._on_warning(_no_room_words(step, newest_checkpoint(checkpoints_dir)))
            return
        best = self.state.best_global_step
        keep_only(checkpoints_dir, self._checkpoints_kept, also=[best] if best else [])

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save as Trainer does, without the pickle of its arguments: config.yaml has them all."""
        super()._save(output_dir, state_dict)
        directory = Path(output_dir or self.args.output_dir)
        (directory / "training_args.bin").unlink(missing_ok=True)
        if self._learning_state:
            self._learning_state.save(self.model, directory)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load as Trainer does, but where the saved adapter is not all that learned."""
        if self._learning_state:
            self._learning_state.load(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _micro_batches(self, examples: Sequence[TokenizedExample]) -> Iterator[MicroBatch]:
        return micro_batches(examples, self._token_budget, padded=self._padded, pad_id=self._pad_id)


def _no_room_words(step: int, kept: Checkpoint | None) -> str:
    still = f" The one of step {kept.step:,} is still there." if kept else ""
    return (
        f"The disk is full, so the checkpoint of step {step:,} could not be saved.{still} "
        "Free some space; training goes on."
    )
