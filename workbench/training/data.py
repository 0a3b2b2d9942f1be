"""The examples of a run: read, tokenized, made to fit, divided, and as often as their weights say."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.config import TrainingConfig
from workbench.data.conversations import read_conversations
from workbench.data.formats import Conversation
from workbench.data.split import pick, question_key, split_rows, weighted
from workbench.errors import WorkbenchError
from workbench.facts import GENERAL_ROWS
from workbench.models.cutting import fit_examples
from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.models.tokens import token_cache_path, tokenize_dataset
from workbench.runs.events import Event, WarningEvent
from workbench.runs.store import DataPart, Run

NOTHING_TO_CHECK_WITH = (
    "There is no validation loss, because no row is left to check with: those rows are too long, or "
    "all rows ask the same few questions and cannot be held back without the model having seen them."
)
GENERAL_LONGEST_TOKENS = 512


@dataclass(frozen=True)
class PreparedPart:
    """One dataset of a run.

    Attributes:
        name: Different for every dataset.
        train: What an epoch sees of it.
        validation: What is held back.
        cut_rows: Rows that were shortened.
        left_out_rows: Rows that were too long.
        longest_tokens: Tokens of the longest row, whether it is left out or not.
        train_questions: ``question_key`` of every row on the training side.
        validation_questions: The same of those held back.
        watched: The first conversations held back, or else learned from: to see the answers change.
    """

    name: str
    train: list[TokenizedExample]
    validation: list[TokenizedExample]
    cut_rows: int
    left_out_rows: int
    longest_tokens: int
    train_questions: list[int]
    validation_questions: list[int]
    watched: list[Conversation]


@dataclass(frozen=True)
class PreparedData:
    """Everything a run reads.

    Attributes:
        parts: The datasets it learns from and is checked with.
        general: What is mixed in to keep general skills. Every position counts, questions too: it is not
            learned by heart but shows how the base model was.
        general_check: General questions that only check.
    """

    parts: list[PreparedPart]
    general: list[TokenizedExample]
    general_check: list[TokenizedExample]

    @property
    def train(self) -> list[TokenizedExample]:
        """What an epoch sees."""
        return [example for part in self.parts for example in part.train]

    @property
    def watched(self) -> list[Conversation]:
        """Conversations whose questions are asked while it learns."""
        return [conversation for part in reversed(self.parts) for conversation in part.watched]

    @property
    def validation_rows(self) -> int:
        """Rows that are held back."""
        return sum(len(part.validation) for part in self.parts)


def prepare_data(
    run: Run, tokenizer: Any, model_dir: Path, emit: Callable[[Event], None]
) -> PreparedData:
    """Prepare every dataset of a run; says what was cut and left out.

    Raises:
        WorkbenchError: A dataset is gone or was changed, or no row is left to train on.
    """
    data, config = run.data, run.config
    share = 0.0 if data.validation else data.validation_share
    names = _names(data.datasets)
    parts = [
        _prepare(part, name, share, config, tokenizer, model_dir)
        for part, name in zip(data.parts, names, strict=False)
    ]
    if not any(part.train for part in parts):
        raise WorkbenchError(
            f"Every row is longer than the maximum length of {config.limit_tokens:,} tokens.",
            "Raise the maximum length; the longest row has "
            f"{max(part.longest_tokens for part in parts):,} tokens.",
        )
    if data.validation:
        checked = _prepare(data.validation, names[-1], 0.0, config, tokenizer, model_dir)
        parts.append(
            replace(
                checked,
                train=[],
                validation=checked.train,
                train_questions=[],
                validation_questions=checked.train_questions,
            )
        )
    _tell(parts, sum(part.row_count for part in data.datasets), config, emit)
    if (share or data.validation) and not any(part.validation for part in parts):
        emit(WarningEvent(message=NOTHING_TO_CHECK_WITH))
    _tell_of_leaks(parts, emit)
    general, general_check = (
        _general_examples(part, config, tokenizer, model_dir) if part else []
        for part in (data.general, data.general_check)
    )
    whole = [TokenizedExample(row.input_ids, [IGNORED, *row.input_ids[1:]]) for row in general]
    return PreparedData(parts, whole, general_check)


def _general_examples(
    part: DataPart, config: TrainingConfig, tokenizer: Any, model_dir: Path
) -> list[TokenizedExample]:
    limit_tokens = max(config.limit_tokens, GENERAL_LONGEST_TOKENS)
    _, examples = _read(part, tokenizer, model_dir)
    short = [example for example in examples if len(example.input_ids) <= limit_tokens]
    if not short:
        raise WorkbenchError(
            f"Every row of {part.name} is longer than {limit_tokens:,} tokens.",
            "Choose other general examples, or switch off keeping general skills.",
        )
    return random.Random(config.seed).sample(short, min(GENERAL_ROWS, len(short)))


def _prepare(
    part: DataPart,
    name: str,
    share: float,
    config: TrainingConfig,
    tokenizer: Any,
    model_dir: Path,
) -> PreparedPart:
    conversations, examples = _read(part, tokenizer, model_dir)
    fitted = fit_examples(tokenizer, conversations, examples, config.limit_tokens, config.too_long)
    sides = split_rows(conversations, share, config.seed)
    train, validation = (
        [example for example in pick(fitted.examples, side) if example] for side in sides
    )
    return PreparedPart(
        name=name,
        train=weighted(train, part.weight, config.seed),
        validation=validation,
        cut_rows=fitted.cut_rows,
        left_out_rows=fitted.dropped_rows,
        longest_tokens=max((len(example.input_ids) for example in examples), default=0),
        train_questions=[question_key(row) for row in pick(conversations, sides[0])],
        validation_questions=[question_key(row) for row in pick(conversations, sides[1])],
        watched=pick(conversations, sides[1] or sides[0])[: config.watched_rows],
    )


def _read(
    part: DataPart, tokenizer: Any, model_dir: Path
) -> tuple[list[Conversation], list[TokenizedExample]]:
    path = Path(part.path)
    if not path.is_file() or _sha256(path) != part.sha256:
        raise WorkbenchError(
            f"The data of this run ({part.name}) is gone or was changed.",
            "Add it again and start a new run.",
        )
    conversations = read_conversations(path)
    return conversations, tokenize_dataset(
        tokenizer, conversations, token_cache_path(path, model_dir)
    )


def _names(parts: tuple[DataPart, ...]) -> list[str]:
    """Return a name for every dataset; the second of two equal ones gets a number."""
    names: list[str] = []
    for part in parts:
        name, number = part.name, 1
        while name in names:
            number += 1
            name = f"{part.name} ({number})"
        names.append(name)
    return names


def _tell(
    parts: list[PreparedPart], rows: int, config: TrainingConfig, emit: Callable[[Event], None]
) -> None:
    for count, what, advice in (
        (sum(part.left_out_rows for part in parts), "left out", "to keep them"),
        (sum(part.cut_rows for part in parts), "cut", "to keep them whole"),
    ):
        if count:
            emit(
                WarningEvent(
                    message=f"{count:,} rows ({count / rows:.1%}) are longer than "
                    f"{config.limit_tokens:,} tokens and were {what}. Raise the maximum length {advice}."
                )
            )


def _tell_of_leaks(parts: list[PreparedPart], emit: Callable[[Event], None]) -> None:
    """Say how many rows to check with ask what a row of another dataset trains."""
    trained = {key for part in parts for key in part.train_questions}
    checked = [key for part in parts for key in part.validation_questions]
    leaks = sum(key in trained for key in checked)
    if leaks:
        emit(
            WarningEvent(
                message=f"{leaks:,} of the {len(checked):,} rows to check with ask what a row of another "
                "dataset teaches, so the validation loss looks better than it is."
            )
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
