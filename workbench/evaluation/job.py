"""One evaluation, from top to bottom: get the model, read the rows, ask base and tuned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.child_progress import ProgressWriter
from workbench.compute import Compute, choose_compute
from workbench.errors import StopRequested
from workbench.evaluation.answering import Asker, Question
from workbench.evaluation.answers import (
    Answer,
    GeneralLoss,
    ModelAnswers,
    PlainAnswer,
    RowLoss,
    Said,
    append_answers,
    read_answers,
)
from workbench.evaluation.models import Models, longest_tokens
from workbench.evaluation.plain import ANSWER_TOKENS as PLAIN_TOKENS
from workbench.evaluation.plain import plain_questions
from workbench.evaluation.request import BASE, EvaluationRequest, longest_answer_tokens
from workbench.evaluation.rows import EvaluationRow, Selection, general_rows, select_rows
from workbench.hardware import cpu_cores
from workbench.models.rendering import (
    TokenizedExample,
    load_tokenizer,
    prompt_ids,
    tokenize_examples,
)
from workbench.models.sources import source_of
from workbench.models.store import ModelStore
from workbench.presets import methods
from workbench.runs.store import Run, read_json, write_json
from workbench.settings import Settings


@dataclass(frozen=True)
class Work:
    """Everything that is asked.

    Attributes:
        questions: What each row asks.
        examples: The whole rows, for the loss; only those with an expected answer.
        general: The general questions with their answers.
        plain: The plain questions, by their place.
        too_long: Rows that are longer than the model can read.
        answer_tokens: Longest answer.
    """

    questions: list[Question]
    examples: list[tuple[int, TokenizedExample]]
    general: list[tuple[int, TokenizedExample]]
    plain: list[Question]
    too_long: list[int]
    answer_tokens: int


def evaluate(
    run: Run,
    request: EvaluationRequest,
    settings: Settings,
    progress: ProgressWriter,
    stop_requested: Callable[[], bool],
) -> None:
    """Ask what was not asked before; everything said is on disk when this returns.

    Raises:
        StopRequested: The person stopped; what was said until then is kept.
        WorkbenchError: Something the person can act on.
    """
    torch.set_num_threads(cpu_cores())
    progress.enter("Reading the rows")
    paths = request.answer_paths(run)
    selection = select_rows(run, request)
    general = [] if request.is_only_questions else general_rows(run)

    def stop_download(_: object) -> None:
        if stop_requested():
            raise StopRequested

    source = source_of(run.config)
    base_dir = ModelStore(settings).ensure(source, stop_download)
    tokenizer = load_tokenizer(base_dir)
    compute = choose_compute(run.config.precision)
    progress.enter("Loading the model")
    models = Models(base_dir, methods()[run.config.method], compute)
    work = _prepare(tokenizer, selection, general, request, longest_tokens(base_dir))
    _write_facts(request.directory(run), compute, work, tokenizer, selection)
    for name, path in paths.items():
        known = read_answers(path)
        general_indices = [index for index, _ in work.general]
        if known.covers(selection.rows, general_indices, [one.index for one in work.plain]):
            continue
        if name == BASE:
            model = models.base()
        else:
            model = models.tuned(request.tuned_dir(run), request.strength)
        asker = Asker(model, tokenizer, compute, stop_requested)
        _ask(asker, name, work, known, path, progress)


def _ask(
    asker: Asker,
    name: str,
    work: Work,
    known: ModelAnswers,
    path: Path,
    progress: ProgressWriter,
) -> None:
    """Ask one model what it has not been asked yet, and keep what it says."""

    def keep(words: str, total: int, parts: Iterable[Sequence[Said]]) -> None:
        if not total:
            return
        progress.enter(words, total)
        for said in parts:
            append_answers(path, said)
            progress.advance(len(said))

    left_out: list[Said] = []
    for index in work.too_long:
        left_out += [Answer(index, None), RowLoss(index, 0.0, 0, 0)]
    append_answers(path, [one for one in left_out if one.index not in known.answers])
    examples = [pair for pair in work.examples if pair[0] not in known.losses]
    general = [pair for pair in work.general if pair[0] not in known.general]
    questions = [question for question in work.questions if question.index not in known.answers]
    plain = [question for question in work.plain if question.index not in known.plain]
    who = "The model before training" if name == BASE else "The tuned model"
    keep(f"{who} reads the expected answers", len(examples), asker.losses(examples))
    keep(f"{who} reads general questions", len(general), asker.losses(general, GeneralLoss))
    said = asker.answers(plain, PLAIN_TOKENS)
    kept = ([PlainAnswer(**asdict(answer)) for answer in part] for part in said)
    keep(f"{who} answers plain questions", len(plain), kept)
    keep(f"{who} answers", len(questions), asker.answers(questions, work.answer_tokens))


def _prepare(
    tokenizer: Any,
    selection: Selection,
    general: Sequence[EvaluationRow],
    request: EvaluationRequest,
    limit_tokens: int,
) -> Work:
    rows = selection.rows
    answer_tokens = request.answer_tokens or _answer_tokens(tokenizer, selection.longest_expected)
    answer_tokens = min(answer_tokens, max(1, limit_tokens // 2))
    questions = [Question(row.index, prompt_ids(tokenizer, row.asked)) for row in rows]
    answered = [row for row in rows if row.has_expected]
    examples = tokenize_examples(tokenizer, [row.messages for row in answered])
    pairs = [(row.index, example) for row, example in zip(answered, examples, strict=True)]
    too_long = {
        *(one.index for one in questions if len(one.ids) + answer_tokens > limit_tokens),
        *(index for index, example in pairs if len(example.input_ids) > limit_tokens),
    }
    general_examples = tokenize_examples(tokenizer, [row.messages for row in general])
    return Work(
        questions=[question for question in questions if question.index not in too_long],
        examples=[pair for pair in pairs if pair[0] not in too_long],
        general=[
            (row.index, example)
            for row, example in zip(general, general_examples, strict=True)
            if len(example.input_ids) <= limit_tokens
        ],
        plain=_plain_questions(tokenizer, limit_tokens) if not request.is_only_questions else [],
        too_long=sorted(too_long),
        answer_tokens=answer_tokens,
    )


def _plain_questions(tokenizer: Any, limit_tokens: int) -> list[Question]:
    asked = [
        Question(index, prompt_ids(tokenizer, [{"role": "user", "content": one.question}]))
        for index, one in enumerate(plain_questions())
    ]
    return [one for one in asked if len(one.ids) + PLAIN_TOKENS <= limit_tokens]


def _answer_tokens(tokenizer: Any, longest_expected: Sequence[str]) -> int:
    """Return how long an answer may be, from the longest ones that are expected."""
    ids = tokenizer(list(longest_expected), add_special_tokens=False)["input_ids"]
    return longest_answer_tokens(max(map(len, ids)))


def _write_facts(
    directory: Path, compute: Compute, work: Work, tokenizer: Any, selection: Selection
) -> None:
    """Write down how the answers came about; the page shows it."""
    path = directory / "facts.json"
    expected = tokenizer([row.expected for row in selection.rows], add_special_tokens=False)
    lengths = [len(ids) for ids in expected["input_ids"]]
    facts = {
        "device": compute.device,
        "precision": compute.precision,
        "answer_tokens": work.answer_tokens,
        "expected_tokens": sum(lengths) / len(lengths),
        "general": [index for index, _ in work.general],
        "plain": [question.index for question in work.plain],
        "time": time.time(),
    }
    write_json(path, (read_json(path) if path.exists() else {}) | facts)
