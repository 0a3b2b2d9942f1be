"""``workbench evaluate RUN --judge URL``: another model says which answers are better. Only where it is asked for."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import track

from workbench.evaluation.judging import Judge, judge_rows, leaving_words, rows_to_judge
from workbench.evaluation.result import Evaluation
from workbench.services import Services


def judge(services: Services, evaluation: Evaluation, url: str, model: str, *, quiet: bool) -> None:
    """Have the rows judged that were not; says first what is sent where.

    Raises:
        WorkbenchError: The address is none, or the judge cannot be reached or refuses.
    """
    asked = Judge(url, model, services.settings.judge_key)
    rows = rows_to_judge(asked, evaluation)
    if not rows:
        return
    print(leaving_words(asked, len(rows)), file=sys.stderr)
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    said = judge_rows(asked, evaluation, rows)
    for _ in track(said, "Judging", len(rows), console=console, disable=hidden):
        pass  # each is kept as it comes
