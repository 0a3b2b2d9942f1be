"""One run, from top to bottom: get the model, prepare the data, load, train, save."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from transformers import set_seed

from workbench.compatibility import find_conflicts
from workbench.downloads import FetchProgress
from workbench.errors import StopRequested, WorkbenchError
from workbench.hardware import cpu_cores
from workbench.models.manner import NO_TEMPLATE
from workbench.models.rendering import has_fallback_template, load_tokenizer
from workbench.models.sources import source_of
from workbench.models.store import ModelStore
from workbench.presets import methods
from workbench.runs.checkpoints import (
    Checkpoint,
    checkpoint_of,
    is_whole,
    log_history,
)
from workbench.runs.events import (
    CheckpointEvent,
    DownloadEvent,
    Event,
    FinishedEvent,
    GeneralEvent,
    Phase,
    PhaseEvent,
    ResumeEvent,
    StartEvent,
    WarningEvent,
)
from workbench.runs.store import Run, write_json
from workbench.settings import Settings
from workbench.training.assembly import Assembly, Emit, assemble
from workbench.training.data import PreparedData, prepare_data
from workbench.training.loading import parameter_counts
from workbench.training.reporter import EarlyStopping, Reporter
from workbench.training.saving import save_model
from workbench.training.team import ALONE, Team

StopRequestedCheck = Callable[[], bool]


def train(
    run: Run, settings: Settings, emit: Emit, stop_requested: StopRequestedCheck, team: Team = ALONE
) -> FinishedEvent:
    """Train one run and save its model.

    Args:
        run: What to train.
        settings: Where the workspace is.
        emit: Told everything that happens.
        stop_requested: Asked at every safe point.
        team: The processes that train together.

    Returns:
        The last event of the run.

    Raises:
        StopRequested: The person stopped before the first step.
        WorkbenchError: Something the person can act on.
    """

    def enter(phase: Phase) -> None:
        if team.agree(stop_requested()):
            raise StopRequested
        emit(PhaseEvent(phase=phase))

    torch.set_num_threads(max(1, cpu_cores() // team.size))
    set_seed(run.config.seed)

    enter("downloading")
    if not team.is_first:
        team.wait()
    model_dir = _fetch_model(run, settings, emit, stop_requested)
    if team.is_first:
        team.wait()

    _check_settings(run, settings)

    enter("preparing data")
    tokenizer = load_tokenizer(model_dir)
    if has_fallback_template(tokenizer):
        emit(WarningEvent(message=NO_TEMPLATE))
    data = prepare_data(run, tokenizer, model_dir, emit)

    enter("loading")

    def tell(event: Event) -> None:
        """Emit it; the first new checkpoint is newer than a model that an earlier process saved, and stands for it."""
        stands_for_it = not methods()[run.config.method].changes_the_base
        if isinstance(event, CheckpointEvent) and stands_for_it and team.is_first:
            run.forget_model()
        emit(event)

    reporter = Reporter(
        tell, stop_requested, run.planned_step_seconds, run.planned_memory_bytes, team
    )
    assembly = assemble(run, data, tokenizer, model_dir, reporter, emit, team)
    _write_environment(run, assembly.compute.device, assembly.compute.precision)
    emit(_start_event(data, assembly))

    enter("training")
    _learn(assembly, emit, lambda: team.agree(stop_requested()))
    step = assembly.trainer.state.global_step
    best = _take_best(assembly, run, emit)
    if assembly.general_loss and not reporter.was_stopped:
        with contextlib.suppress(StopRequested):  # what was learned is saved all the same
            emit(GeneralEvent(step=best or step, loss=assembly.general_loss()))
    emit(PhaseEvent(phase="saving"))
    if team.is_first:
        save_model(assembly.model, tokenizer, run, model_dir, assembly.saving)
    if run.config.evaluate_after and data.validation_rows:
        run.evaluation_due_path.touch()
    message = _last_words(run, step, assembly.total_steps, best, was_stopped=reporter.was_stopped)
    outcome: Literal["stopped", "finished"] = "stopped" if reporter.was_stopped else "finished"
    return FinishedEvent(outcome=outcome, message=message, model_saved=True)


def _learn(assembly: Assembly, emit: Emit, stop_requested: StopRequestedCheck) -> None:
    """Do all steps that are left. Trainer evaluates every ``eval_steps`` and after the last step."""
    trainer, checkpoint = assembly.trainer, assembly.checkpoint
    if checkpoint:
        emit(ResumeEvent(step=checkpoint.step))
        if _is_over(assembly, checkpoint):
            trainer.take_up(checkpoint)
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint.directory))
        return
    if trainer.eval_dataset is not None:
        trainer.evaluate()  # so that the curve shows what training changed
    if stop_requested():
        raise StopRequested
    trainer.train()


def _is_over(assembly: Assembly, checkpoint: Checkpoint) -> bool:
    """Say whether a checkpoint lacks only the end of its run; Trainer would do a step more."""
    callbacks = assembly.trainer.callback_handler.callbacks
    stopping = [callback for callback in callbacks if isinstance(callback, EarlyStopping)]
    return checkpoint.step >= assembly.total_steps or any(
        callback.has_had_enough(log_history(checkpoint)) for callback in stopping
    )


def _take_best(assembly: Assembly, run: Run, emit: Emit) -> int | None:
    """Go back to the best checkpoint, where that is wanted; return its step."""
    state = assembly.trainer.state
    if run.config.final_model == "last" or state.best_global_step in (None, state.global_step):
        return None
    checkpoint = checkpoint_of(run.checkpoints_dir, state.best_global_step)
    if checkpoint is None:
        return None  # the disk was full; the warning said so
    if not is_whole(checkpoint):
        emit(WarningEvent(message=_damaged_best_words(checkpoint.step)))
        return None
    assembly.trainer.load_weights(checkpoint)
    return checkpoint.step


def _damaged_best_words(step: int) -> str:
    return (
        f"The best checkpoint, that of step {step:,}, is damaged: the disk changed it. "
        "So the model is that of the last step."
    )


def _last_words(
    run: Run, step: int, total_steps: int, best: int | None, *, was_stopped: bool
) -> str:
    if was_stopped:
        words = f"Stopped after step {step:,} of {total_steps:,}. What it learned so far is saved."
    elif step < total_steps:
        by_accuracy = run.config.best_by == "accuracy"
        why = "accuracy had stopped rising" if by_accuracy else "loss had stopped falling"
        words = f"Ended after step {step:,} of {total_steps:,}, because the validation {why}."
    else:
        words = f"Finished all {total_steps:,} steps."
    return words + (f" The model is that of step {best:,}, the best." if best else "")


def _start_event(data: PreparedData, assembly: Assembly) -> StartEvent:
    parameters, trained_parameters = parameter_counts(assembly.model)
    return StartEvent(
        total_steps=assembly.total_steps,
        train_rows=len(data.train),
        validation_rows=data.validation_rows,
        left_out_rows=sum(part.left_out_rows for part in data.parts),
        cut_rows=sum(part.cut_rows for part in data.parts),
        by_dataset={part.name: (len(part.train), len(part.validation)) for part in data.parts},
        supervised_tokens=sum(example.supervised_tokens for example in data.train),
        parameters=parameters,
        trained_parameters=trained_parameters,
        device=assembly.compute.device,
        precision=assembly.compute.precision,
        threads=torch.get_num_threads(),
        kernels=assembly.kernels,
    )


def _fetch_model(
    run: Run, settings: Settings, emit: Emit, stop_requested: StopRequestedCheck
) -> Path:
    """Return the model's folder; tells how far the download is."""
    last = [0.0]

    def report(progress: FetchProgress) -> None:
        if stop_requested():
            raise StopRequested
        event = DownloadEvent(
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            message=progress.message,
        )
        if event.time - last[0] > 0.5:  # pip tells of every 256 kB
            last[0] = event.time
            emit(event)

    source = source_of(run.config)
    return ModelStore(settings).ensure(source, report)


def _check_settings(run: Run, settings: Settings) -> None:
    """Refuse what cannot work with the model; of one that no hub was asked about that is known only now.

    Raises:
        WorkbenchError: Settings that cannot work together, or not with this model.
    """
    facts = ModelStore(settings).facts(source_of(run.config))
    asked_for = run.config.model_copy(update=dict.fromkeys(run.reasons))  # the others were chosen
    if conflicts := find_conflicts(asked_for, facts):
        raise WorkbenchError(" ".join(conflicts))


def _write_environment(run: Run, device: str, precision: str) -> None:
    packages = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "precision": precision,
        **{package: version(package) for package in packages},
    }
    write_json(run.directory / "environment.json", environment)
