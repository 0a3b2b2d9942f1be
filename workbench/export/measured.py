"""What an evaluation of a run found, for its model card. No torch; the libraries for metrics take seconds."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.errors import WorkbenchError
from workbench.evaluation.card import (
    comparison_words,
    figure_lines,
    forgetting_words,
    learned_words,
    rows_words,
)
from workbench.evaluation.plain import plain_words
from workbench.evaluation.request import EvaluationRequest, read_request
from workbench.evaluation.result import Evaluation, find_evaluation
from workbench.export.card import plain
from workbench.runs.store import UNREADABLE, Run


def measured_text(run: Run, checkpoint: int | None, strength: float) -> str:
    """Return the figures of what is exported, as Markdown; empty where it was not evaluated.

    Those on the rows held back come first, else those on the file that was asked last. What a judge said is left
    out: it names an address.

    Args:
        run: The run.
        checkpoint: The step of the model; ``None`` for the saved one.
        strength: How much of the adapter is on.
    """
    for request in _requests(run, checkpoint, strength):
        try:
            evaluation = find_evaluation(run, request)
        except WorkbenchError:  # its rows are gone
            continue
        if evaluation and evaluation.rows:
            return _text(evaluation)
    return ""


def _requests(run: Run, checkpoint: int | None, strength: float) -> Iterator[EvaluationRequest]:
    yield EvaluationRequest(checkpoint=checkpoint, strength=strength)
    paths = list(run.directory.glob("evaluations/*/request.json"))
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            asked = read_request(path)
        except UNREADABLE:
            continue
        if asked.data and not asked.is_only_questions:
            yield EvaluationRequest(
                checkpoint=checkpoint,
                data=asked.data,
                answer_tokens=asked.answer_tokens,
                strength=strength,
            )


def _text(evaluation: Evaluation) -> str:
    lines = [f"{plain(rows_words(evaluation))}\n", "| figure (95 % interval) | base | tuned |"]
    lines.append("|---|---|---|")
    for kind, cells in figure_lines(evaluation.metrics.values()):
        lines.append(f"| {kind.label} | {' | '.join(cells)} |")
    said = learned_words(evaluation)
    if evaluation.comparison:
        said.append(comparison_words(evaluation, evaluation.comparison))
    if evaluation.forgetting:
        said.append(forgetting_words(evaluation.forgetting))
    if words := plain_words(evaluation.plain):
        said.append(words)
    return "\n".join([*lines, "", *(f"{words}\n" for words in said)])
