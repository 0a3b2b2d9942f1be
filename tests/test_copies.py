"""A run made of another one."""

from __future__ import annotations

import shutil

import pytest

from tests.made_runs import make_run
from workbench.copies import continue_run, start_copy
from workbench.errors import WorkbenchError
from workbench.presets import methods
from workbench.runs.checkpoints import mark_complete
from workbench.runs.store import DataReference, write_json
from workbench.runs.supervisor import Supervisor
from workbench.services import Services


def with_checkpoint(run, step=4):
    directory = run.checkpoints_dir / f"checkpoint-{step}"
    directory.mkdir(parents=True)
    mark_complete(directory)
    return run


def child_of(services, parent, **told):
    """A run that goes on from another one."""
    run = make_run(services.runs, "child", **told)
    record = {"name": "child", "created": 1.0, "reasons": {}, "planned_seconds": None}
    write_json(run.directory / "run.json", record | {"parent": parent.id, "continues": True})
    services.runs._opened.clear()
    return services.runs.get(run.id)


def test_a_copy_of_a_run_that_went_on_from_another_one_does_so_again(services, monkeypatch):
    parent = with_checkpoint(make_run(services.runs, "parent"))
    child = child_of(services, parent, outcome="failed")
    started = []

    def note(services, run, changes, name, *, continues, parent=None):
        started.append((run, continues, parent))

    monkeypatch.setattr("workbench.copies._start_copy", note)
    start_copy(services, child, {"learning_rate": 1e-5})
    start_copy(services, child, {"method": "qlora"})
    start_copy(services, parent, {"learning_rate": 1e-5})
    assert started == [(child, True, parent), (child, False, None), (parent, False, None)]
    (parent.checkpoints_dir / "checkpoint-4" / "complete.json").unlink()
    with pytest.raises(WorkbenchError, match="has no checkpoint any more"):
        start_copy(services, child, {})


def test_a_copy_of_a_run_of_a_model_on_a_hub_does_not_take_a_folder_of_that_name(
    services, tmp_path, tiny_model_dir, monkeypatch
):
    (tmp_path / "owner").mkdir()
    shutil.copytree(tiny_model_dir, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Services, "ensure_known", lambda services, source: None)
    monkeypatch.setattr(Supervisor, "start", lambda supervisor, run, *more: None)
    part = services.part(services.datasets.usable("sample-identity"))
    run = make_run(services.runs, data=DataReference((part,), None, 0.1, 42))
    assert start_copy(services, run, {"model": "owner/name"}).config.model == "owner/name"


@pytest.mark.parametrize("method", [name for name, m in methods().items() if not m.continues])
def test_a_method_that_plans_its_whole_run_is_not_continued(services, method):
    run = with_checkpoint(make_run(services.runs, "planned", {"method": method}))
    with pytest.raises(WorkbenchError, match=f"{methods()[method].label} plans its whole run"):
        continue_run(services, run, 1)
