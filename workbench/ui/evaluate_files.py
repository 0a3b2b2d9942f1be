"""Evaluate tab, what can be taken along of an evaluation: the report as one page, and the JSON document."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError
from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.tasks import Task
from workbench.files import write_text_atomically
from workbench.runs.store import Run
from workbench.services import Services
from workbench.settings import ensure_dir

if TYPE_CHECKING:
    from workbench.evaluation.result import Evaluation


def report_path(services: Services, evaluation: Evaluation) -> str:
    """Write the page to show a colleague, and return where it lies."""
    from workbench.evaluation.report import report_html  # its libraries take seconds

    path = ensure_dir(services.settings.reports_dir) / f"report-{evaluation.run.id}.html"
    write_text_atomically(path, report_html(evaluation))
    return str(path)


def json_file(
    runs: Sequence[Run], request: EvaluationRequest, task: Task | None
) -> tuple[str, str]:
    """Return name and text of a JSON document on one run, or on several.

    Raises:
        WorkbenchError: They were not evaluated yet.
    """
    # Their libraries take seconds.
    from workbench.evaluation.comparing import find_comparison
    from workbench.evaluation.comparing_document import comparison_json
    from workbench.evaluation.document import as_json
    from workbench.evaluation.result import find_evaluation

    document = None
    if request.compared:
        comparison = find_comparison(runs, request, task)
        document = comparison_json(comparison) if comparison else None
    else:
        evaluation = find_evaluation(runs[0], request, task)
        document = as_json(evaluation) if evaluation else None
    if document is None:
        raise WorkbenchError("Nothing was evaluated yet.", "Press Evaluate first.")
    name = "compare" if request.compared else "report"
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return f"{name}-{runs[0].id}.json", text + "\n"
