"""One run, from top to bottom: get the model, prepare the data, load, train, save."""

from __future__ import annotations

import functools
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from workbench.compute import choose_compute
from workbench.downloads import FetchProgress
from workbench.errors import StopRequested
from workbench.hardware import cpu_cores
from workbench.models.catalogue import find_model
from workbench.models.rendering import load_tokenizer
from workbench.models.store import ModelStore
from workbench.runs.events import (
    DownloadEvent,
    Event,
    FinishedEvent,
    GeneralEvent,
    Phase,
    PhaseEvent,
    StartEvent,
    WarningEvent,
)
from workbench.runs.store import Run, write_json
from workbench.settings import Settings
from workbench.training.batches import micro_batches
from workbench.training.data import prepare_data, prepare_general
from workbench.training.general import GeneralSkills
from workbench.training.loading import (
    load_model,
    make_trainable,
    parameter_counts,
)
from workbench.training.reporter import Reporter
from workbench.training.trainer import ExampleList, WorkbenchTrainer, mean_loss, supervised_logits

Emit = Callable[[Event], None]
StopRequestedCheck = Callable[[], bool]


def train(
    run: Run, settings: Settings, emit: Emit, stop_requested: StopRequestedCheck
) -> FinishedEvent:
    """Train one run and save its model.

    Args:
        run: What to train.
        settings: Where the workspace is.
        emit: Told everything that happens.
        stop_requested: Asked at every safe point.

    Returns:
        The last event of the run.

    Raises:
        StopRequested: The person stopped before the first step.
        WorkbenchError: Something the person can act on.
    """

    def enter(phase: Phase) -> None:
        if stop_requested():
            raise StopRequested
        emit(PhaseEvent(phase=phase))

    config = run.config
    torch.set_num_threads(cpu_cores())
    set_seed(config.seed)

    enter("downloading")
    model_dir = _fetch_model(run, settings, emit, stop_requested)

    enter("preparing data")
    tokenizer = load_tokenizer(model_dir)
    parts = prepare_data(run, tokenizer, model_dir, emit)
    train_examples = [example for part in parts for example in part.train]
    validation_rows = sum(len(part.validation) for part in parts)
    general_rows, general_check = prepare_general(run, tokenizer, model_dir)

    enter("loading")
    compute = choose_compute(config.precision)
    model, padded = load_model(model_dir, config, compute)
    if padded and compute.device == "cpu":
        emit(WarningEvent(message="This model's architecture takes the slower, padded path."))
    batches = functools.partial(
        micro_batches,
        token_budget=config.micro_batch_tokens,
        padded=padded,
        pad_id=tokenizer.pad_token_id or 0,
    )
    if general_check:
        emit(GeneralEvent(step=0, loss=mean_loss(model, batches(general_check), compute)))
    general = None
    if general_rows:
        look = functools.partial(supervised_logits, model, compute=compute)
        skills = GeneralSkills(general_rows, batches, look, config.seed)
        general = skills, config.general_rows_per_step(len(train_examples))
    model = make_trainable(model, config)
    parameters, trained_parameters = parameter_counts(model)
    total_steps = config.total_steps(len(train_examples))
    _write_environment(run, compute.device, compute.precision)

    reporter = Reporter(emit, stop_requested)
    trainer = WorkbenchTrainer(
        compute=compute,
        token_budget=config.micro_batch_tokens,
        padded=padded,
        on_step=reporter.on_step_computed,
        model=model,
        args=_training_arguments(run, total_steps, compute.device, validation_rows > 0),
        train_dataset=ExampleList(train_examples),
        validation={part.name: part.validation for part in parts},
        general=general,
        processing_class=tokenizer,
        callbacks=[reporter],
    )
    emit(
        StartEvent(
            total_steps=total_steps,
            train_rows=len(train_examples),
            validation_rows=validation_rows,
            left_out_rows=sum(part.left_out_rows for part in parts),
            cut_rows=sum(part.cut_rows for part in parts),
            by_dataset={part.name: (len(part.train), len(part.validation)) for part in parts},
            supervised_tokens=sum(example.supervised_tokens for example in train_examples),
            parameters=parameters,
            trained_parameters=trained_parameters,
            device=compute.device,
            precision=compute.precision,
            threads=torch.get_num_threads(),
        )
    )

    enter("training")
    if validation_rows:
        trainer.evaluate()  # where the model starts, so that the curve shows what training changed
    trainer.train()  # evaluates every eval_steps and after the last step

    step = trainer.state.global_step
    if general_check:
        emit(GeneralEvent(step=step, loss=mean_loss(model, batches(general_check), compute)))
    emit(PhaseEvent(phase="saving"))
    _save(model, tokenizer, run, model_dir)
    if reporter.was_stopped:
        message = f"Stopped after step {step} of {total_steps}. What it learned so far is saved."
        return FinishedEvent(outcome="stopped", message=message, model_saved=True)
    return FinishedEvent(
        outcome="finished", message=f"Finished all {total_steps} steps.", model_saved=True
    )


def _fetch_model(
    run: Run, settings: Settings, emit: Emit, stop_requested: StopRequestedCheck
) -> Path:
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

    source = find_model(run.config.model, allow_folder=True)
    return ModelStore(settings).ensure(source, report)


def _training_arguments(
    run: Run, total_steps: int, device: str, validates: bool
) -> TrainingArguments:
    """Translate our settings into Trainer's. A batch is a whole step, so nothing accumulates."""
    config = run.config
    return TrainingArguments(
        output_dir=str(run.directory / "checkpoints"),
        max_steps=total_steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=round((config.warmup_ratio or 0) * total_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=config.eval_steps if validates else None,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=1,
        use_cpu=device == "cpu",
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
    )


def _save(model: Any, tokenizer: Any, run: Run, base_dir: Path) -> None:
    """Write ``model/``: an adapter, or for full tuning a model that needs no base.

    The folder is complete when it has its name.
    """
    partial_dir = run.directory / "model.part"
    if run.config.method == "full":
        from transformers import AutoConfig

        base_dtype = AutoConfig.from_pretrained(base_dir, trust_remote_code=False).dtype
        model = model.to(base_dtype or torch.float32)
        model.config.use_cache = True
        # How it was trained, not what it is: others load it with their own attention.
        model.set_attn_implementation("sdpa")
    model.save_pretrained(partial_dir)
    tokenizer.save_pretrained(partial_dir)
    shutil.rmtree(run.model_dir, ignore_errors=True)
    partial_dir.rename(run.model_dir)


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
