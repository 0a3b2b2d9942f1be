from __future__ import annotations

import pytest
from filelock import FileLock

from tests.made_runs import make_run
from workbench.alone import check_alone, make_room_to_ask
from workbench.child_progress import LOCK
from workbench.errors import WorkbenchError
from workbench.evaluation.process import STOP
from workbench.evaluation.request import EvaluationRequest, write_request


@pytest.fixture
def evaluated(services):
    """A run, and the folder of an evaluation of it that runs."""
    run = make_run(services.runs)
    directory = write_request(run, EvaluationRequest()).parent
    with FileLock(directory / LOCK):  # as the process holds it while it lives
        yield run, directory


def test_a_second_model_is_refused_while_one_is_asked(services, evaluated):
    _, directory = evaluated
    with pytest.raises(WorkbenchError, match="needs the memory"):
        check_alone(services)
    make_room_to_ask(services, directory)  # the same goes on
    assert not (directory / STOP).exists()


def test_what_is_evaluated_by_itself_gives_way(services, evaluated, monkeypatch):
    run, directory = evaluated
    run.evaluation_due_path.touch()
    monkeypatch.setattr("workbench.evaluation.process.STOPPING_SECONDS", 0.1)
    make_room_to_ask(services)
    assert (directory / STOP).exists()
