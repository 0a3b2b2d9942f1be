"""Trainer's callbacks in, our events out; and the person's wish to stop, into Trainer."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.runs.checkpoints import newest_checkpoint
from workbench.runs.events import CheckpointEvent, EvaluationEvent, Event, StepEvent, WarningEvent
from workbench.training.device_use import CpuUse, GpuUse
from workbench.training.memory_watch import MemoryWatch
from workbench.training.team import ALONE, Team
from workbench.training.trainer import StepFigures
from workbench.words import describe_bytes, describe_duration

BEST_METRICS = {"loss": "eval_loss", "accuracy": "eval_token_accuracy"}  # Trainer's names
COMPARED_STEPS = 5
MUCH_MORE = 1.2
NOTICED_SECONDS = 30.0  # a run of a minute needs no note that it takes another half


class Reporter(TrainerCallback):
    """Emit one event per step, evaluation and checkpoint.

    Args:
        emit: Where events go.
        stop_requested: Asked after every step.
        planned_step_seconds: What the plan said of a step; told when it is much more or less in reality.
        planned_memory_bytes: What it said of the peak, counted from now on; told in the same way.
        team: The processes that train together; all end after the same step.

    Attributes:
        was_stopped: The person ended the run before its last step.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        stop_requested: Callable[[], bool],
        planned_step_seconds: float | None = None,
        planned_memory_bytes: int | None = None,
        team: Team = ALONE,
    ) -> None:
        self._emit = emit
        self.stop_requested = stop_requested
        self._team = team
        self._planned_step_seconds = planned_step_seconds
        self._planned_memory_bytes = planned_memory_bytes
        self._memory = MemoryWatch().start() if planned_memory_bytes else None
        self._device_use = GpuUse() if torch.cuda.is_available() else CpuUse()
        self._first_seconds: list[float] = []
        self._figures = StepFigures(0, 0.0, 0.0)
        self._was_compared = False
        self.was_stopped = False

    def on_step_computed(self, figures: StepFigures) -> None:
        """Remember what the trainer says of the step that is about to be logged."""
        self._figures = figures
        if len(self._first_seconds) < COMPARED_STEPS:
            self._first_seconds.append(figures.seconds)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Emit a step or an evaluation, whichever Trainer logs."""
        logs = logs or {}
        if "loss" in logs:
            self._emit(
                StepEvent(
                    step=state.global_step,
                    epoch=round(state.epoch or 0.0, 4),
                    loss=logs["loss"],
                    learning_rate=logs["learning_rate"],
                    grad_norm=logs.get("grad_norm"),
                    tokens=self._figures.tokens,
                    seconds=self._figures.seconds,
                    token_accuracy=self._figures.token_accuracy,
                    memory_bytes=peak_memory_bytes(),
                    device_use=self._device_use.share(),
                )
            )
            is_last = state.global_step == state.max_steps
            if not self._was_compared and (is_last or len(self._first_seconds) == COMPARED_STEPS):
                self._was_compared = True
                self._compare_with_plan(state.max_steps)
                self._compare_memory_with_plan()
        elif "eval_loss" in logs:
            self._emit(
                EvaluationEvent(
                    step=state.global_step,
                    loss=logs["eval_loss"],
                    token_accuracy=logs["eval_token_accuracy"],
                    seconds=logs["eval_runtime"],
                    by_dataset=logs["eval_by_dataset"],
                )
            )

    def _compare_with_plan(self, total_steps: int) -> None:
        """Say it when steps take much more, or much less, time than the plan promised."""
        seconds, planned = statistics.median(self._first_seconds), self._planned_step_seconds
        if not planned or abs(seconds - planned) * total_steps < NOTICED_SECONDS:
            return
        words = (
            f"A step takes {seconds:.1f} s where {planned:.1f} s were planned, so all {total_steps:,} "
            f"steps take about {describe_duration(seconds * total_steps)}"
        )
        if seconds > MUCH_MORE * planned:
            self._warn(f"{words}. Other programs may be using the computer.")
        elif planned > MUCH_MORE * seconds:
            self._warn(f"{words}: sooner than the plan said.")

    def _compare_memory_with_plan(self) -> None:
        """Say it when much more memory is needed than the plan promised."""
        if self._memory is None or self._planned_memory_bytes is None:
            return
        peak, planned = self._memory.peak_bytes, self._planned_memory_bytes
        if peak > MUCH_MORE * planned:
            self._warn(
                f"Training needs {describe_bytes(peak)} of memory where {describe_bytes(planned)} were planned. "
                "If the computer becomes slow, stop, and lower the tokens at a time or the maximum length."
            )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say it when much less memory was needed; earlier, the longest examples may be still to come."""
        if self._memory is None or self._planned_memory_bytes is None:
            return
        self._memory.stop()
        peak, planned = self._memory.peak_bytes, self._planned_memory_bytes
        if planned > MUCH_MORE * peak and state.global_step == state.max_steps:
            self._warn(
                f"Training needed {describe_bytes(peak)} of memory at most where {describe_bytes(planned)} were "
                "planned: there is room for a larger model, or for more tokens at a time."
            )

    def _warn(self, message: str) -> None:
        self._emit(WarningEvent(message=message))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell of a checkpoint that is on disk."""
        newest = newest_checkpoint(Path(args.output_dir))
        if newest and newest.step == state.global_step:
            self._emit(CheckpointEvent(step=newest.step, folder=newest.directory.name))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End training after this step when the person asked for it."""
        self._end_if_asked(state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End it at a check, too: the checkpoint is then of its step, and the check can be made up for there."""
        if state.global_step:
            self._end_if_asked(state, control)

    def _end_if_asked(self, state: TrainerState, control: TrainerControl) -> None:
        if self._team.agree(self.stop_requested()):
            self.was_stopped = state.global_step < state.max_steps
            control.should_save = control.should_training_stop = True
            control.should_evaluate = False  # the person waits


class EarlyStopping(TrainerCallback):
    """End the run when it was no better several times in a row.

    It counts in Trainer's own log, which a checkpoint keeps: so a resumed run ends where it would have.

    Args:
        patience: How many checks may be no better.
        gain: By how much the loss must fall, or the accuracy rise, to count as better.
        best_by: Which of them is looked at.
    """

    def __init__(self, patience: int, gain: float, best_by: Literal["loss", "accuracy"]) -> None:
        self._patience, self._gain = patience, gain
        self._metric = BEST_METRICS[best_by]
        self._sign = -1 if best_by == "accuracy" else 1

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count, and stop when it is enough."""
        if self.has_had_enough(state.log_history):
            control.should_training_stop = control.should_save = True

    def has_had_enough(self, log_history: Sequence[Mapping[str, Any]]) -> bool:
        """Say whether training is to end after what Trainer has logged."""
        losses = [self._sign * one[self._metric] for one in log_history if self._metric in one]
        return checks_without_gain(losses, self._gain) >= self._patience


def checks_without_gain(losses: Sequence[float], gain: float) -> int:
    """Return how many of the newest losses (or negative accuracies) were no better than the best before them."""
    best, count = float("inf"), 0
    for loss in losses:
        if loss < best - gain:
            best, count = loss, 0
        else:  # also when it is no number
            count += 1
    return count


def peak_memory_bytes() -> int:
    """Return the GPU memory allocated at most, or without a GPU the memory this process has."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return int(psutil.Process().memory_info().rss)
