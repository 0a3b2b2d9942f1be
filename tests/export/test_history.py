"""Exports in the workspace: found again, stopped, deleted, and never lost silently."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.made_runs import make_run
from workbench.errors import WorkbenchError
from workbench.export.history import (
    active_exports,
    delete_export,
    exports_of,
    find_export,
    stop_export,
)
from workbench.export.process import PROCESS, REQUEST
from workbench.export.request import write_request
from workbench.exports import check_export, start_export, workspace_request
from workbench.processes import start_child
from workbench.settings import ensure_dir


@pytest.fixture
def plain_run(services):
    """A run with a file that looks like an adapter: enough to look at, not to export."""
    run = make_run(services.runs, "My run / ../x")
    run.model_dir.mkdir()
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"x" * 10)
    return run


def started(services, run, request, *, alive):
    """An export whose process does nothing but wait."""
    directory = ensure_dir(run.directory / "exports" / f"20260101-000000-{request.kind}-0000")
    path = write_request(directory, request)
    request.partial_path.write_bytes(b"half")
    code = "import time; time.sleep(60)" if alive else "pass"
    child = start_child(["-c", code, str(path)], services.settings, directory / "log.txt")
    (directory / PROCESS).write_text(json.dumps({"pid": child.pid, "create_time": 0.0}))
    if not alive:
        child.wait()
    return directory


def test_an_export_is_made_found_and_deleted(run, services):
    process = start_export(services, run, workspace_request(services, run, "adapter"))
    *_, last = process.watch()
    assert last.state == "finished"
    (export,) = exports_of(run)
    path = services.settings.exports_dir / "tuned-adapter.zip"
    assert (export.result.path, export.is_running) == (str(path), False)
    assert find_export(run, export.id).result.files[0].size_bytes == path.stat().st_size
    # A second one gets a name of its own.
    again = workspace_request(services, run, "adapter")
    assert again.out_path.name == "tuned-adapter-2.zip"
    delete_export(export)
    assert exports_of(run) == []
    assert list(services.settings.exports_dir.iterdir()) == []
    with pytest.raises(WorkbenchError, match="not there any more"):
        find_export(run, export.id)


def test_names_come_from_the_run_and_are_no_paths(plain_run, services):
    for kind, choices, name in (
        ("adapter", {}, "my-run-x-adapter.zip"),
        ("model", {}, "my-run-x-model"),
        ("gguf", {"gguf_type": "Q8_0"}, "my-run-x-Q8_0.gguf"),
        ("ollama", {"gguf_type": "F16"}, "my-run-x-ollama-F16"),
        ("bundle", {}, "my-run-x-bundle.zip"),
        ("card", {"checkpoint": 3}, "my-run-x-card-step-3.md"),
    ):
        request = workspace_request(services, plain_run, kind, **choices)
        assert request.out_path == services.settings.exports_dir / name


def test_a_running_one_is_seen_and_stands_in_the_way(plain_run, services, monkeypatch):
    monkeypatch.setattr("workbench.export.process.PATIENCE_SECONDS", 0.2)
    request = workspace_request(services, plain_run, "model")
    started(services, plain_run, request, alive=True)
    (export,) = exports_of(plain_run)
    assert export.is_running
    assert not export.is_stopping
    assert [one.id for one in active_exports(services.runs.root_dir)] == [export.id]
    with pytest.raises(WorkbenchError, match="being made"):
        delete_export(export)
    other = workspace_request(services, plain_run, "gguf")
    with pytest.raises(WorkbenchError, match="Another model is being exported"):
        check_export(services, plain_run, other)
    check_export(services, plain_run, workspace_request(services, plain_run, "adapter"))
    stop_export(export)
    check_export(services, plain_run, other)


def test_stop_ends_the_process_however_deaf(plain_run, services, monkeypatch):
    monkeypatch.setattr("workbench.export.process.PATIENCE_SECONDS", 0.2)
    request = workspace_request(services, plain_run, "model")
    started(services, plain_run, request, alive=True)
    (export,) = exports_of(plain_run)
    stop_export(export)
    assert not request.partial_path.exists()
    (export,) = exports_of(plain_run)
    assert (export.progress.state, active_exports(services.runs.root_dir)) == ("stopped", [])


def test_one_whose_process_is_gone_says_so_and_leaves_nothing(plain_run, services):
    request = workspace_request(services, plain_run, "model")
    started(services, plain_run, request, alive=False)
    (export,) = exports_of(plain_run)
    assert export.progress.state == "failed"
    assert "never said why" in export.progress.message
    assert not request.partial_path.exists()


def test_one_that_begins_just_now_is_not_lost(plain_run, services):
    directory = started(
        services, plain_run, workspace_request(services, plain_run, "card"), alive=False
    )
    (directory / PROCESS).unlink()
    assert exports_of(plain_run)[0].is_running
    long_ago = time.time() - 60
    os.utime(directory / REQUEST, (long_ago, long_ago))
    assert exports_of(plain_run)[0].progress.state == "failed"
