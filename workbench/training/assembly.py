"""Put model, method, data and trainer together: what a run and a test drive share."""

from __future__ import annotations

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


@dataclass(frozen=True)
class _Base:
    """The base model, before anything of it learns.

    Attributes:
        loss: The model, with its device and precision, and how to compute what its answers cost.
        padded: It cannot run padding-free, so rows are filled up to one length.
        look: Cuts examples into micro-batches that are small enough for logits at every position.
        kernels: As in ``Assembly``.
    """

    loss: AnswerLoss
    padded: bool
    look: Callable[[Sequence[TokenizedExample]], Iterator[MicroBatch]]
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
    base = _load_base(config, data, tokenizer, model_dir, compute, reporter, emit)
    asking = time.perf_counter()
    general = _remember_base(run, data, base, model_dir, checkpoint, emit)
    asked_seconds = time.perf_counter() - asking
    total_steps = config.total_steps(len(data.train))
    model = _make_ready_to_learn(base.loss.model, config, total_steps, emit)
    saving = prepare_saving(model, config, run.directory / "initial") if team.is_first else {}
    trainer = _build_trainer(
        run, data, tokenizer, base, model, general, checkpoint, reporter, emit, team
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
        base.kernels,
    )


def _load_base(
    config: TrainingConfig,
    data: PreparedData,
    tokenizer: Any,
    model_dir: Path,
    compute: Compute,
    reporter: Reporter,
    emit: Emit,
) -> _Base:
    """Load the base, and find out whether it runs packed, what computes it, and how its loss is worked out."""
    model, padded = load_model(
        model_dir, config, compute, lambda sentence: emit(WarningEvent(message=sentence))
    )
    pad_id = tokenizer.pad_token_id or 0
    if not padded and not runs_packed(model, compute, data.train, pad_id):
        padded = True
        model.set_attn_implementation(standard_attention(model))
        emit(WarningEvent(message=NOT_PACKED))

    def look(examples: Sequence[TokenizedExample]) -> Iterator[MicroBatch]:
        token_budget = min(LOOKING_TOKENS, config.token_budget)
        batches = micro_batches(examples, token_budget, padded=padded, pad_id=pad_id)
        return until_stopped(batches, reporter.stop_requested)

    kernels = use_liger_kernels(model) if compute.device == "cuda" else ""
    shortest = min(data.train, key=lambda example: len(example.input_ids))
    return _Base(AnswerLoss.of(model, compute, *look([shortest])), padded, look, kernels)


def _remember_base(
    run: Run,
    data: PreparedData,
    base: _Base,
    model_dir: Path,
    checkpoint: Checkpoint | None,
    emit: Emit,
) -> tuple[GeneralSkills, int] | None:
    """Remember what the base does before it learns: its loss on general questions, and what it expects in others.

    Returns:
        What keeps general skills, and how many of its examples go with a step; or ``None``.
    """
    method = methods()[run.config.method]
    form = "padded" if base.padded else "packed"
    loaded_as = f"{base.loss.compute.precision} {method.base} {method.saves} {form}"
    if data.general_check and run.data.general_check and checkpoint is None:
        path = _kept_path(run.data.general_check, loaded_as, model_dir, data.general_check)
        before = kept_loss(path, lambda: base.loss.mean(base.look(data.general_check)))
        emit(GeneralEvent(step=0, loss=before))
    if not data.general or run.data.general is None:
        return None
    base.loss.model.eval()
    path = _kept_path(run.data.general, loaded_as, model_dir, data.general)
    answers = kept_answers(
        path, data.general, lambda: base_answers(data.general, base.look, base.loss.logits)
    )
    skills = GeneralSkills(data.general, answers, run.config.seed)
    return skills, run.config.general_rows_per_step(len(data.train))


def _kept_path(
    part: DataPart, loaded_as: str, model_dir: Path, examples: Sequence[TokenizedExample]
) -> Path:
    """Return where is kept what the base model, loaded as it is here, says of examples."""
    return answers_path(Path(part.path), model_dir, loaded_as, examples)


def _make_ready_to_learn(model: Any, config: TrainingConfig, total_steps: int, emit: Emit) -> Any:
    """Return the model with what learns, and its layers fused, recomputed and compiled as the run wants them."""
    model = make_trainable(model, config, total_steps)
    fuse_lora(model)
    if config.recomputed_share:
        recompute_layers(model, config.recomputed_share)
    if config.compile and not compile_layers(model):
        emit(WarningEvent(message="Nothing of this model can be compiled, so it trains as usual."))
    return model


def _build_trainer(
    run: Run,
    data: PreparedData,
    tokenizer: Any,
    base: _Base,
    model: Any,
    general: tuple[GeneralSkills, int] | None,
    checkpoint: Checkpoint | None,
    reporter: Reporter,
    emit: Emit,
    team: Team,
) -> WorkbenchTrainer:
    """Build the trainer of a model that is ready to learn, with all that listens to it."""
    config, compute = run.config, base.loss.compute
    learning_state = LEARNING_STATES[config.method]() if config.method in LEARNING_STATES else None
    questions = questions_to_watch(config, data.watched)
    watch = SampleWriter(questions, model, tokenizer, compute, emit, reporter.stop_requested)
    return WorkbenchTrainer(
        loss=base.loss.of_tuned(model),
        token_budget=config.token_budget,
        padded=base.padded,
        on_step=reporter.on_step_computed,
        on_warning=lambda message: emit(WarningEvent(message=message)),
        stop_requested=reporter.stop_requested,
        checkpoints_kept=config.checkpoints_kept,
        args=_training_arguments(
            run,
            config.total_steps(len(data.train)),
            compute.device,
            data.validation_rows > 0,
            checkpoint,
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
