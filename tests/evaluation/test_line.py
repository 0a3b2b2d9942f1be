from __future__ import annotations

from dataclasses import replace

from tests.made_runs import make_run
from workbench.errors import WorkbenchError
from workbench.evaluation.line import AskingLine
from workbench.evaluation.request import EvaluationRequest


def test_a_comparison_that_cannot_go_on_says_why(services, monkeypatch):
    def gone(*_):
        raise WorkbenchError("The run is gone.", "Choose another.")

    runs = [make_run(services.runs, name) for name in ("one", "two")]
    request = replace(EvaluationRequest(), compared=tuple(run.id for run in runs))
    line = AskingLine(services.settings)
    monkeypatch.setattr("workbench.evaluation.result.is_answered", gone)
    line.start(request, [(run, request) for run in runs])
    line._thread.join()
    progress = line.look(request, runs)
    assert (progress.state, progress.message) == ("failed", "The run is gone.")
    monkeypatch.setattr("workbench.evaluation.result.is_answered", lambda *_: True)
    line.start(request, [(run, request) for run in runs])
    line._thread.join()
    assert line.look(request, runs) is None
