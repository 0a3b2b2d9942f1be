"""A short card in words: which model does better, how sure that is, and what was forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.evaluation.intervals import Figure
from workbench.evaluation.judgements import Judged
from workbench.evaluation.measured import Comparison, Forgetting
from workbench.evaluation.metrics import HEADLINES, KINDS, Kind, Metrics, Unit
from workbench.evaluation.plain import has_forgotten, plain_words
from workbench.evaluation.result import Evaluation
from workbench.evaluation.tasks import TASK_WORDS, Task
from workbench.runs.strength import strength_words

FEW_ROWS = 100  # below that a share's interval is wider than ten points either way


def headline(evaluation: Evaluation) -> str:
    """Say in one line what came out: right answers before and now, or of free text how near they come."""
    count = len(evaluation.rows)
    if evaluation.task == "text":
        name = HEADLINES[evaluation.task]
        before, now = (
            number_words(metrics.figures[name].value, KINDS[name].unit)
            for metrics in evaluation.metrics.values()
        )
        return (
            f"Likeness to the expected answers ({KINDS[name].label}, 0 to 100) on {count:,} rows: {before} "
            f"before, {now} now."
        )
    before, now = (_right_words(metrics) for metrics in evaluation.metrics.values())
    return f"Right answers: {before} before, {now} now."


def _right_words(metrics: Metrics) -> str:
    scores = [score for score in metrics.rows if score is not None]
    return f"{sum(score.right for score in scores):,} of {len(scores):,}"


def card_lines(evaluation: Evaluation) -> list[str]:
    """Write the card for a terminal."""
    names = list(evaluation.metrics)
    lines = [f"{evaluation.run.name}: {rows_words(evaluation)}", ""]
    lines.append(f"{'':32}" + "".join(f"{name:26}" for name in names).rstrip())
    for kind, cells in figure_lines(evaluation.metrics.values()):
        lines.append(f"{kind.label:32}{''.join(f'{cell:26}' for cell in cells)}".rstrip())
    lines.append("")
    lines += [text for text in verdict(evaluation) if text]
    return lines


def figure_lines(models: Iterable[Metrics]) -> list[tuple[Kind, list[str]]]:
    """Return every figure that the models have, in words, one for each of them."""
    found = [model.figures for model in models]
    return [
        (kind, [figure_words(figures[name], kind.unit) for figures in found])
        for name, kind in KINDS.items()
        if found and all(name in figures for figures in found)
    ]


def rows_words(evaluation: Evaluation) -> str:
    """Say which rows were asked, and what is missing."""
    request, count = evaluation.request, len(evaluation.rows)
    where = f"of {request.data.name}" if request.data else "that were held back"
    words = f"{count:,} rows {where}, compared as {TASK_WORDS[evaluation.task]}"
    if evaluation.asked_rows < evaluation.available_rows:
        words += f"; chosen from {evaluation.available_rows:,}"
    missing = evaluation.asked_rows - count - evaluation.too_long
    for number, what in (
        (missing, "not answered yet"),
        (evaluation.too_long, "longer than the model can read"),
        (request.left_out_rows(evaluation.run), "of the file without a usable question and answer"),
        (evaluation.unusable, "whose expected answer cannot be compared this way"),
    ):
        words += f"; {number:,} {what}" if number else ""
    return f"{words}. {strength_words(request.strength) if request.tuned else ''}".rstrip()


def figure_words(figure: Figure, unit: Unit) -> str:
    """Write a figure with its interval: ``92 % (74 to 98)``."""
    value = number_words(figure.value, unit)
    if figure.low is None or figure.high is None or figure.value is None:
        return value
    low, high = (number_words(end, unit).removesuffix(" %") for end in (figure.low, figure.high))
    return f"{value} ({low} to {high})"


def number_words(value: float | None, unit: Unit) -> str:
    """Write a number in its unit."""
    if value is None:
        return "-"
    if unit == "share":
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if unit == "loss" else f"{value:.1f}"


def verdict(evaluation: Evaluation) -> list[str]:
    """Say in sentences what the figures mean."""
    lines = learned_words(evaluation)
    if evaluation.comparison:
        lines.append(comparison_words(evaluation, evaluation.comparison))
    count = len(evaluation.rows)
    if count and count < FEW_ROWS:
        lines.append(
            f"{count:,} rows are few: in brackets is where 95 % of such samples would put the figure."
        )
    forgot = plain_words(evaluation.plain)
    if has_forgotten(evaluation.plain):  # what everybody understands comes first
        lines.append(f"It forgot a lot. {forgot} A lower learning rate or fewer steps break less.")
        forgot = ""
    if evaluation.forgetting:
        lines.append(forgetting_words(evaluation.forgetting))
    lines += [forgot] if forgot else []
    return [*lines, *map(judged_words, evaluation.judged)]


def learned_words(evaluation: Evaluation) -> list[str]:
    """Warn where rows are asked that the run learned from."""
    learned, asked = evaluation.learned_rows, evaluation.asked_rows
    if learned is None:
        return [
            "The rows that the run learned from are gone or were changed, so nobody can tell whether it has seen "
            "some of these."
        ]
    if not learned:
        return []
    return [
        f"Beware: the run learned from {learned:,} of these {asked:,} rows. What a run has seen in training says "
        "nothing about what it can do."
    ]


def judged_words(judged: Judged) -> str:
    """Say whom a judge prefers, and whether that may be chance."""
    words = (
        f"The judge {judged.model} at {judged.url} prefers the tuned model in {judged.wins:,} rows, the "
        f"base model in {judged.losses:,}, and neither in {judged.ties:,}"
    )
    words += f" ({judged.flipped:,} because the order decided)" if judged.flipped else ""
    if points := points_words(judged.ahead, " points"):
        words += f": tuned is ahead by {points}"
    for number, what in ((judged.unclear, "it did not say"), (judged.missing, "not judged yet")):
        words += f"; {number:,} {what}" if number else ""
    return f"{words}."


def comparison_words(evaluation: Evaluation, comparison: Comparison) -> str:
    """Say whether tuning helped on these rows, and whether that may be chance."""
    return difference_words(evaluation.task, comparison, "The tuned model", "the base model")


def difference_words(task: Task, comparison: Comparison, who: str, other: str) -> str:
    """Say how one model differs from another, whether that may be chance, and in how many rows."""
    counted = _counted_words(task, comparison, who, other)
    points = points_words(comparison.difference, " points")
    if not points:
        return counted
    start = "No clear difference"
    if comparison.is_clear:
        start = "Better" if (comparison.difference.value or 0) > 0 else "Worse"
    return f"{start} by {KINDS[HEADLINES[task]].label}: {points}. {counted}"


def points_words(difference: Figure, unit: str = "") -> str:
    """Write a difference of shares: ``+4.0 (-1.2 to +9.1)``; empty where it has no interval."""
    ends = (difference.value, difference.low, difference.high)
    if None in ends:
        return ""
    value, low, high = (f"{100 * (number or 0):+.1f}" for number in ends)
    return f"{value}{unit} ({low} to {high})"


def _counted_words(task: Task, comparison: Comparison, who: str, other: str) -> str:
    better, worse = comparison.better, comparison.worse
    if task == "text":
        return (
            f"{who} comes nearer to the expected answer than {other} in {better:,} rows; the other way "
            f"round in {worse:,}."
        )
    return f"{who} is right in {better:,} rows where {other} is wrong; the other way round in {worse:,}."


def forgetting_words(forgetting: Forgetting) -> str:
    """Say how much of its general skills the model kept."""
    kept = forgetting.kept
    return (
        f"Keeps {100 * (kept.value or 0):.0f} % of what it knew by one measure: the loss on {kept.count:,} general questions "
        f"was {forgetting.before:.3f} and is {forgetting.after:.3f} (exp of the difference, at most 100 %)."
    )
