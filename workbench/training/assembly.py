"""Put model, method, data and trainer together: what a run and a test drive share."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from transformers import TrainerCallback, TrainingArguments

from workbench.asking.loading import standard_attention
from workbench.compute import Compute, choose_compute
from workbench.config import TrainingConfig
from workbench.errors import WorkbenchError
from workbench.facts import Precision
from workbench.models.rendering import TokenizedExample
from workbench.presets import methods
from workbench.runs.checkpoints import (
    Checkpoint,
    best_before,
    delete_unusable,
    is_whole,
    lacks_check,
    newest_whole,
)
from workbench.runs.events import Event, GeneralEvent, ResumeEvent, WarningEvent
from workbench.runs.record import read_record
from workbench.runs.store import DataPart, Run, open_run
from workbench.training.base_answers import answers_path, base_answers, kept_answers, kept_loss
from workbench.training.batches import MicroBatch, micro_batches, until_stopped
from workbench.training.compiling import compile_layers
from workbench.training.data import PreparedData
from workbench.training.failures import Damaged
from workbench.training.fused_lora import fuse_lora
from workbench.training.general import GeneralSkills
from workbench.training.learning_state import LearningState
from workbench.training.liger import use_liger_kernels
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss
from workbench.training.methods import (
    build_optimizer,
    make_trainable,
    optimizer_arguments,
    prepare_saving,
)
from workbench.training.packing import runs_packed
from workbench.training.rank_allocation import RankAllocation
from workbench.training.recomputing import recompute_layers
from workbench.training.reporter import BEST_METRICS, EarlyStopping, Reporter
from workbench.training.samples import SampleWriter, questions_to_watch
from workbench.training.team import ALONE, Team
from workbench.training.trainer import ExampleList, WorkbenchTrainer

Emit = Callable[[Event], None]
# Every position has logits when the base model is looked at; a training step must stay the largest thing.
LOOKING_TOKENS = 512
NOT_PACKED = (
    "This model reads rows that follow each other otherwise than rows alone, so they are filled up to one length, "
    "which is slower but right."
)
# The methods whose saved adapter is not all that learned.
LEARNING_STATES = {"adalora": RankAllocation, "ptuning": LearningState}


@dataclass(frozen=True)
class Assembly:
    """A trainer that is ready for its first step.

    Attributes:
        trainer: With its optimizer still to be made.
        model: What the trainer trains.
        compute: Device and precision.
        total_steps: Optimizer steps.
        general_loss: The mean loss on the general questions that check, now; ``None`` without any.
        saving: What ``save_model`` needs to know of the beginning.
        asked_seconds: How long the base model was asked about general examples; once, then it is kept.
        checkpoint: What the run goes on from, or ``None`` at its beginning.
        kernels: A package whose kernels the model computes with, and its version; empty for none.
    """

    trainer: WorkbenchTrainer
    model: Any
    compute: Compute
    total_steps: int
    general_loss: Callable[[], float] | None
    saving: dict[str, Any]
    asked_seconds: float
    checkpoint: Checkpoint | None
    kernels: str


def assemble(
    run: Run,
    data: PreparedData,
    tokenizer: Any,
    model_dir: Path,
    reporter: Reporter,
    emit: Emit,
    team: Team = ALONE,
) -> Assembly:
    """Load the model, remember what it was, make it trainable, and build the trainer.

    Raises:
        StopRequested: The person stopped meanwhile.
        WorkbenchError: The run continues another one that has no checkpoint any more.
        Damaged: No checkpoint is as it was written.
    """
    config = run.config
    checkpoint = _checkpoint_to_resume(run, emit, team)
    began = read_record(run.events_path).start
    if checkpoint is None and began:
        emit(ResumeEvent(step=0))  # an earlier process of this run got nowhere: all is said anew
    compute = _compute(began.precision if checkpoint and began else config.precision, team)
    model, padded = load_model(
        model_dir, config, compute, lambda sentence: emit(WarningEvent(message=sentence))
    )
    pad_id = tokenizer.pad_token_id or 0
    if not padded and not runs_packed(model, compute, data.train, pad_id):
        padded = True
        model.set_attn_implementation(standard_attention(model))
        emit(WarningEvent(message=NOT_PACKED))

    def cut(
        examples: Sequence[TokenizedExample], token_budget: int = config.token_budget
    ) -> Iterator[MicroBatch]:
        batches = micro_batches(examples, token_budget, padded=padded, pad_id=pad_id)
        return until_stopped(batches, reporter.stop_requested)

    look = functools.partial(cut, token_budget=min(LOOKING_TOKENS, config.token_budget))
    kernels = use_liger_kernels(model) if compute.device == "cuda" else ""
    shortest = min(data.train, key=lambda example: len(example.input_ids))
    base = AnswerLoss.of(model, compute, *cut([shortest]))
    method = methods()[config.method]
    loaded_as = (
        f"{compute.precision} {method.base} {method.saves} {'padded' if padded else 'packed'}"
    )
    asking = time.perf_counter()
    if data.general_check and run.data.general_check and checkpoint is None:
        path = _kept_path(run.data.general_check, loaded_as, model_dir, data.general_check)
        before = kept_loss(path, lambda: base.mean(look(data.general_check)))
        emit(GeneralEvent(step=0, loss=before))
    general = _general_skills(run, data, base, look, loaded_as, model_dir)
    asked_seconds = time.perf_counter() - asking
    total_steps = config.total_steps(len(data.train))
    model = make_trainable(model, config, total_steps)
    fuse_lora(model)
    if config.recomputed_share:
        recompute_layers(model, config.recomputed_share)
    if config.compile and not compile_layers(model):
        emit(WarningEvent(message="Nothing of this model can be compiled, so it trains as usual."))
    saving = prepare_saving(model, config, run.directory / "initial") if team.is_first else {}
    loss = base.of_tuned(model)
    questions = questions_to_watch(config, data.watched)
    learning_state = LEARNING_STATES[config.method]() if config.method in LEARNING_STATES else None
    watch = SampleWriter(questions, model, tokenizer, compute, emit, reporter.stop_requested)
    trainer = WorkbenchTrainer(
        loss=loss,
        token_budget=config.token_budget,
        padded=padded,
        on_step=reporter.on_step_computed,
        on_warning=lambda message: emit(WarningEvent(message=message)),
        stop_requested=reporter.stop_requested,
        checkpoints_kept=config.checkpoints_kept,
        args=_training_arguments(
            run, total_steps, compute.device, data.validation_rows > 0, checkpoint
        ),
        train_dataset=ExampleList(data.train),
        validation={part.name: part.validation for part in data.parts},
        general=general,
        label_smoothing=config.label_smoothing,
        optimizers=(build_optimizer(model, config), None),
        processing_class=tokenizer,
        learning_state=learning_state,
        team=team,
        callbacks=[
            reporter,
            *([watch] if team.is_first else []),
            *([learning_state] if isinstance(learning_state, RankAllocation) else []),
            *_early_stopping(config, data),
        ],
    )
    if run.continues and checkpoint is None:
        trainer.load_weights(_parent_checkpoint(run, emit))

    return Assembly(
        trainer,
        model,
        compute,
        total_steps,
        (lambda: trainer.mean_loss(data.general_check)) if data.general_check else None,
        saving,
        asked_seconds,
        checkpoint,
        kernels,
    )


def _compute(precision: Precision | Literal["auto"], team: Team) -> Compute:
    """Choose where and how to compute; what one process measures may differ from what another does."""
    chosen = choose_compute(precision)
    return replace(chosen, precision="bf16" if team.agree(chosen.precision == "bf16") else "fp32")


def _early_stopping(config: TrainingConfig, data: PreparedData) -> list[TrainerCallback]:
    if not config.early_stopping or not data.validation_rows:
        return []
    return [EarlyStopping(config.early_stopping, config.early_stopping_gain, config.best_by)]


def _checkpoint_to_resume(run: Run, emit: Emit, team: Team) -> Checkpoint | None:
    """Return what the run goes on from, and remove what it cannot; ``None`` at its beginning."""
    found, damaged = newest_whole(run.checkpoints_dir)
    _tell_damage(found, damaged, emit)
    if team.is_first:
        delete_unusable(run.checkpoints_dir, damaged)
    return found


def _tell_damage(found: Checkpoint | None, damaged: Sequence[Checkpoint], emit: Emit) -> None:
    """Say it when newer checkpoints had to be passed over.

    Raises:
        Damaged: There were some, and none is left.
    """
    if not damaged:
        return
    words = _damage_words([f"{one.step:,}" for one in damaged])
    if found is None:
        raise Damaged(
            f"{words} There is no other one to go on from.",
            "Start a copy from the beginning. The disk may be failing, so look after it.",
        )
    words += f" So the run goes on from that of step {found.step:,}. The disk may be failing."
    emit(WarningEvent(message=words))


def _damage_words(steps: Sequence[str]) -> str:
    if len(steps) == 1:
        return f"The checkpoint of step {steps[0]} is damaged: its files are not what was written."
    return f"The checkpoints of steps {' and '.join(steps)} are damaged: their files are not what was written."


def _parent_checkpoint(run: Run, emit: Emit) -> Checkpoint:
    parent_dir = run.directory.parent / str(run.parent)
    found, damaged = newest_whole(parent_dir / "checkpoints")
    _tell_damage(found, damaged, emit)
    if found is None:
        raise WorkbenchError(
            "What the run before this one learned is not on the disk any more.",
            "Start from the beginning instead, with the settings of this run.",
        )
    if open_run(parent_dir).config.final_model == "best":  # then that is its model
        best = best_before(found)
        return best if best and is_whole(best) else found
    return found


def _general_skills(
    run: Run,
    data: PreparedData,
    base: AnswerLoss,
    look: Callable[..., Any],
    loaded_as: str,
    model_dir: Path,
) -> tuple[GeneralSkills, int] | None:
    """Remember what the base model expects in the general examples."""
    if not data.general or run.data.general is None:
        return None
    config = run.config
    base.model.eval()
    path = _kept_path(run.data.general, loaded_as, model_dir, data.general)
    answers = kept_answers(
        path, data.general, lambda: base_answers(data.general, look, base.logits)
    )
    skills = GeneralSkills(data.general, answers, config.seed)
    return skills, config.general_rows_per_step(len(data.train))


def _kept_path(
    part: DataPart, loaded_as: str, model_dir: Path, examples: Sequence[TokenizedExample]
) -> Path:
    """Return where is kept what the base model, loaded as it is here, says of examples."""
    return answers_path(Path(part.path), model_dir, loaded_as, examples)


def _training_arguments(
    run: Run, total_steps: int, device: str, validates: bool, checkpoint: Checkpoint | None
) -> TrainingArguments:
    """Translate our settings into Trainer's. A batch is a whole step, so nothing accumulates."""
    config = run.config
    makes_up = validates and checkpoint and lacks_check(checkpoint, config.eval_steps or 1)
    return TrainingArguments(
        output_dir=str(run.checkpoints_dir),
        max_steps=total_steps,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=round((config.warmup_ratio or 0) * total_steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        neftune_noise_alpha=config.neftune_alpha or None,
        seed=config.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=config.eval_steps if validates else None,
        eval_on_start=bool(makes_up),
        save_strategy="steps",
        save_steps=config.save_steps,
        metric_for_best_model=BEST_METRICS[config.best_by] if validates else None,
        greater_is_better=config.best_by == "accuracy",
        use_cpu=device == "cpu",
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        report_to=config.report_to,
        run_name=run.name,
        disable_tqdm=True,
        **optimizer_arguments(config),
    )
