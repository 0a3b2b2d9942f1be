"""How good answers are, by the kind of answer the data has. Every figure has a count and an interval."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from workbench.evaluation import text
from workbench.evaluation.intervals import NOTHING, Figure, macro_f1, mean, ratio, share
from workbench.evaluation.tasks import (
    NO_LABEL,
    LabelReader,
    Task,
    final_number,
    json_fields,
    json_text,
    plain,
    read_json,
    same_number,
)

Unit = Literal["share", "score", "tokens", "loss"]


@dataclass(frozen=True)
class Kind:
    """How a figure is shown: its label, its unit, what it means, and whether less of it is better."""

    label: str
    unit: Unit
    help: str
    less_is_better: bool = False


KINDS = {
    "accuracy": Kind("accuracy", "share", "answers that are the expected label and nothing else"),
    "accuracy_in_sentence": Kind(
        "accuracy, label in a sentence", "share", "the same, where other words may stand around it"
    ),
    "macro_f1": Kind("macro-F1", "share", "mean of all labels' F1, so that rare ones count as much"),
    "no_label": Kind("no label at all", "share", "answers that are none of the labels", True),
    "valid_json": Kind("valid JSON", "share", "answers that can be read as JSON"),
    "exact_match": Kind("exact match", "share", "answers that say exactly what is expected"),
    "field_f1": Kind("field F1", "share", "fields with the right value, missing and invented ones counted"),
    "numeric_match": Kind("right number", "share", "answers that come to the expected number"),
    "no_number": Kind("no number at all", "share", "answers without a number", True),
    "chrf": Kind("chrF", "score", "how many short pieces of letters are the same, 0 to 100"),
    "bleu": Kind("BLEU", "score", "how many word sequences are the same, 0 to 100"),
    "rouge_l": Kind("ROUGE-L", "share", "the longest common sequence of words"),
    "loss": Kind("loss per token", "loss", "how surprising the expected answers are to the model", True),
    "perplexity": Kind("perplexity", "loss", "among how many words it hesitates at each token", True),
    "token_accuracy": Kind("token accuracy", "share", "tokens of the expected answers it thinks likeliest"),
    "answer_tokens": Kind("answer length", "tokens", "mean length of an answer"),
    "empty": Kind("empty answers", "share", "answers without a word", True),
    "never_ending": Kind("never-ending answers", "share", "answers cut off at the token limit", True),
    "repetition": Kind("repetition", "share", "4-word sequences that stood in the answer before", True),
}  # fmt: skip
# More are no picture any more, which happens where labels were not told from the data.
LABELS_SHOWN = 50
LARGEST_LOSS = 700.0  # exp of more is no float
HEADLINES: dict[Task, str] = {
    "labels": "accuracy",
    "json": "field_f1",
    "number": "numeric_match",
    "text": "chrf",
}


@dataclass(frozen=True)
class Scored:
    """One row with a model's answer.

    Attributes:
        expected: The answer of the data.
        answer: The model's.
        answer_tokens: Its length, without the token that ends it.
        ended: It ended by itself, before the token limit.
        loss: Sum of the losses of the row's supervised tokens, in nats.
        correct: How many of those tokens were the likeliest.
        tokens: How many there are.
    """

    expected: str
    answer: str
    answer_tokens: int
    ended: bool
    loss: float
    correct: int
    tokens: int


@dataclass(frozen=True)
class RowScore:
    """How good one answer is: ``right`` or not, and ``score`` from 0 to 1."""

    right: bool
    score: float


@dataclass(frozen=True)
class PartFigures:
    """Precision, recall and F1 of one label, or of one field of JSON answers; ``count`` are expected ones."""

    name: str
    precision: float
    recall: float
    f1: float
    count: int


@dataclass(frozen=True)
class Confusion:
    """How often which label was answered: ``counts[expected][answered]``, in the order of ``labels``."""

    labels: list[str]
    counts: list[list[int]]


@dataclass(frozen=True)
class Metrics:
    """All that is said about one model's answers.

    Attributes:
        figures: By name, as in ``KINDS``.
        rows: A score for every row, in their order; ``None`` where what is expected cannot be compared.
        unusable: Rows whose expected answer is not of the kind, so that they are in no figure of it.
        parts: Per label or per field.
        confusion: Where the answers are labels.
    """

    figures: dict[str, Figure]
    rows: list[RowScore | None]
    unusable: int = 0
    parts: list[PartFigures] = field(default_factory=list)
    confusion: Confusion | None = None


def measure(task: Task, rows: Sequence[Scored], labels: Sequence[str] = ()) -> Metrics:
    """Measure a model's answers.

    Args:
        task: How to compare them.
        rows: The answers.
        labels: All labels of the data; those of the rows where there are none.
    """
    if task == "labels":
        own = sorted({plain(row.expected) for row in rows} - {""})  # no answer is no label
        found = _measure_labels(rows, labels or own)
    elif task == "json":
        found = _measure_json(rows)
    elif task == "number":
        found = _measure_numbers(rows)
    else:
        found = _measure_text(rows)
    return Metrics(
        found.figures | _always(rows), found.rows, found.unusable, found.parts, found.confusion
    )


def _measure_labels(rows: Sequence[Scored], labels: Sequence[str]) -> Metrics:
    reader = LabelReader(labels)
    expected = [reader.read(row.expected) for row in rows]
    usable = [i for i, label in enumerate(expected) if label != NO_LABEL]
    truth = [expected[i] for i in usable]
    answered = [reader.read(rows[i].answer) for i in usable]
    right = [a == b for a, b in zip(truth, answered, strict=True)]
    inside = [reader.find(rows[i].answer) == label for i, label in zip(usable, truth, strict=True)]
    figures = {
        "accuracy": share(right),
        "accuracy_in_sentence": share(inside),
        "no_label": share([label == NO_LABEL for label in answered]),
    }
    scores = [RowScore(fact, float(fact)) for fact in right]
    if not usable:
        return Metrics(figures, [None] * len(rows), len(rows))
    there = set(truth)
    asked = [label for label in labels if label in there]
    all_labels = [*labels, NO_LABEL]
    counts = confusion_matrix(truth, answered, labels=all_labels)
    figures["macro_f1"] = _macro_f1(truth, answered, asked)
    return Metrics(
        figures,
        _spread(scores, usable, len(rows)),
        len(rows) - len(usable),
        _label_figures(truth, answered, asked),
        Confusion(all_labels, counts.tolist()) if len(labels) <= LABELS_SHOWN else None,
    )


def _label_figures(
    truth: Sequence[str], answered: Sequence[str], labels: Sequence[str]
) -> list[PartFigures]:
    columns = precision_recall_fscore_support(truth, answered, labels=labels, zero_division=0)
    found = zip(labels, *(column.tolist() for column in columns), strict=True)
    return [PartFigures(name, p, r, f1, int(count)) for name, p, r, f1, count in found]


def _macro_f1(truth: Sequence[str], answered: Sequence[str], labels: Sequence[str]) -> Figure:
    if len(labels) > LABELS_SHOWN:  # an interval would take minutes
        parts = _label_figures(truth, answered, labels)
        return Figure(sum(part.f1 for part in parts) / len(parts), None, None, len(truth))
    codes = {label: code for code, label in enumerate(labels)}
    other = len(labels)
    return macro_f1(
        [codes[label] for label in truth],
        [codes.get(label, other) for label in answered],
        len(labels),
    )


def _measure_json(rows: Sequence[Scored]) -> Metrics:
    expected = [read_json(row.expected) for row in rows]
    usable = [i for i, value in enumerate(expected) if value is not None]
    answered = [read_json(rows[i].answer) for i in usable]
    wanted = [json_fields(expected[i]) for i in usable]
    found = [json_fields(value) if value is not None else Counter() for value in answered]
    hits = [(a & b).total() for a, b in zip(wanted, found, strict=True)]
    sizes = [a.total() + b.total() for a, b in zip(wanted, found, strict=True)]
    exact = [
        value is not None and json_text(expected[i]) == json_text(value)
        for i, value in zip(usable, answered, strict=True)
    ]
    scores = [
        RowScore(right, 2 * hit / size) for right, hit, size in zip(exact, hits, sizes, strict=True)
    ]
    figures = {
        "valid_json": share([value is not None for value in answered]),
        "exact_match": share(exact),
        "field_f1": ratio([2 * hit for hit in hits], sizes),
    }
    return Metrics(
        figures,
        _spread(scores, usable, len(rows)),
        len(rows) - len(usable),
        _field_figures(wanted, found),
    )


def _field_figures(
    wanted: Sequence[Counter[tuple[str, str]]], found: Sequence[Counter[tuple[str, str]]]
) -> list[PartFigures]:
    expected: Counter[str] = Counter()
    answered: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for one, other in zip(wanted, found, strict=True):
        for counter, fields in ((expected, one), (answered, other), (right, one & other)):
            for (name, _), count in fields.items():
                counter[name] += count
    return [
        PartFigures(
            name or "(whole answer)",
            precision=right[name] / answered[name] if answered[name] else 0.0,
            recall=right[name] / count,
            f1=2 * right[name] / (count + answered[name]),
            count=count,
        )
        for name, count in expected.items()
    ]


def _measure_numbers(rows: Sequence[Scored]) -> Metrics:
    expected = [final_number(row.expected) for row in rows]
    usable = [i for i, number in enumerate(expected) if number is not None]
    answered = [final_number(rows[i].answer) for i in usable]
    right = [
        same_number(expected[i] or 0.0, number) for i, number in zip(usable, answered, strict=True)
    ]
    figures = {
        "numeric_match": share(right),
        "no_number": share([number is None for number in answered]),
    }
    scores = [RowScore(fact, float(fact)) for fact in right]
    return Metrics(figures, _spread(scores, usable, len(rows)), len(rows) - len(usable))


def _measure_text(rows: Sequence[Scored]) -> Metrics:
    usable = [i for i, row in enumerate(rows) if row.expected.strip()]
    expected = [rows[i].expected for i in usable]
    answers = [rows[i].answer for i in usable]
    exact = [plain(a) == plain(b) for a, b in zip(expected, answers, strict=True)]
    figures = {
        **text.similarity(expected, answers),
        "rouge_l": mean(text.rouge_l_of_each(expected, answers)),
        "exact_match": share(exact),
    }
    of_each = text.chrf_of_each(expected, answers)
    scores = [RowScore(fact, score / 100) for fact, score in zip(exact, of_each, strict=True)]
    return Metrics(figures, _spread(scores, usable, len(rows)), len(rows) - len(usable))


def _always(rows: Sequence[Scored]) -> dict[str, Figure]:
    if not rows:
        return {}
    tokens = sum(row.tokens for row in rows)
    loss = ratio([row.loss for row in rows], [row.tokens for row in rows], tokens)
    long = [text.repetition(row.answer) for row in rows if len(text.words(row.answer)) >= text.GRAM]
    return {
        "loss": loss,
        "perplexity": loss.map(perplexity),
        "token_accuracy": ratio([row.correct for row in rows], [r.tokens for r in rows], tokens),
        "answer_tokens": mean([row.answer_tokens for row in rows]),
        "empty": share([not row.answer.strip() for row in rows]),
        "never_ending": share([not row.ended for row in rows]),
        "repetition": mean(long) if long else NOTHING,
    }


def perplexity(loss: float) -> float:
    """Return the perplexity of a loss per token in nats; infinite where it is too large for a float."""
    return math.exp(loss) if loss < LARGEST_LOSS else math.inf


def _spread(scores: Sequence[RowScore], places: Sequence[int], count: int) -> list[RowScore | None]:
    spread: list[RowScore | None] = [None] * count
    for place, score in zip(places, scores, strict=True):
        spread[place] = score
    return spread
