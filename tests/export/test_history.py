"""Exports in the workspace: found again, stopped, deleted, and never lost silently."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.made_runs import make_run
from tests.waiting import wait_until
from workbench.child_progress import LOCK, ProgressWriter, is_alive
from workbench.deleting import delete_run
from workbench.errors import WorkbenchError
from workbench.evaluation.request import EvaluationRequest
from workbench.evaluation.request import write_request as write_evaluation
from workbench.export.history import (
    active_exports,
    delete_export,
    exports_of,
    find_export,
    stop_export,
)
from workbench.export.process import PROCESS, PROGRESS, REQUEST, STOP, UPLOADING
from workbench.export.request import sums_path, write_request
from workbench.exports import (
    check_export,
    export_bytes,
    hub_request,
    start_export,
    workspace_request,
)
from workbench.processes import start_child
from workbench.settings import ensure_dir


@pytest.fixture
def plain_run(services):
    """A run with a file that looks like an adapter: enough to look at, not to export."""
    run = make_run(services.runs, "My run / ../x")
    run.model_dir.mkdir()
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"x" * 10)
    return run


WAIT = "import sys, time, filelock; lock = filelock.FileLock(sys.argv[2]); lock.acquire(); time.sleep(60)"


def started(services, run, request, *, alive, words="Working"):
    """An export whose process does nothing but wait."""
    directory = ensure_dir(run.directory / "exports" / f"20260101-000000-{request.kind}-0000")
    path = write_request(directory, request)
    request.partial_path.write_bytes(b"half")
    arguments = ["-c", WAIT if alive else "pass", str(path), str(directory / LOCK)]
    child = start_child(arguments, services.settings, directory / "log.txt")
    (directory / PROCESS).write_text(json.dumps({"pid": child.pid, "create_time": 0.0}))
    ProgressWriter(directory / PROGRESS).enter(words)
    if not alive:
        child.wait()
    wait_until(lambda: is_alive(directory) or not alive)
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


def test_what_is_there_was_made_by_the_newest(run, services):
    made = []
    for _ in range(2):
        process = start_export(services, run, workspace_request(services, run, "adapter"))
        *_, last = process.watch()
        assert last.state == "finished"
        made.append(Path(exports_of(run)[0].result.path))
        if len(made) == 1:  # by hand, so the second gets its name
            made[0].unlink()
            sums_path(made[0]).unlink()
    newest, older = exports_of(run)
    assert (made[0], older.result) == (made[1], None)
    delete_export(older)
    assert made[1].exists()
    delete_export(newest)
    assert not made[1].exists()


@pytest.mark.parametrize("outcome", ["failed", None])
@pytest.mark.parametrize("kind", ["adapter", "bundle", "card"])
def test_a_run_that_failed_after_a_stop_is_half_finished(services, outcome, kind):
    run = make_run(services.runs, outcome=outcome)
    run.model_dir.mkdir()  # of the stop before
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"x" * 10)
    with pytest.raises(WorkbenchError, match="did not come to its end"):
        check_export(services, run, workspace_request(services, run, kind))
    stopped = make_run(services.runs, outcome="stopped")
    stopped.model_dir.mkdir()
    check_export(services, stopped, workspace_request(services, stopped, kind))


def test_names_come_from_the_run_and_are_no_paths(plain_run, services):
    for kind, choices, name in (
        ("adapter", {}, "my-run-x-adapter.zip"),
        ("merged", {}, "my-run-x-merged"),
        ("gguf", {"gguf_type": "Q8_0"}, "my-run-x-Q8_0.gguf"),
        ("ollama", {"gguf_type": "F16"}, "my-run-x-ollama-F16"),
        ("bundle", {}, "my-run-x-bundle.zip"),
        ("card", {"checkpoint": 3}, "my-run-x-card-step-3.md"),
    ):
        request = workspace_request(services, plain_run, kind, **choices)
        assert request.out_path == services.settings.exports_dir / name


def test_a_running_one_is_seen_and_stands_in_the_way(plain_run, services, monkeypatch):
    monkeypatch.setattr("workbench.export.process.PATIENCE_SECONDS", 0.2)
    request = workspace_request(services, plain_run, "merged")
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
    request = workspace_request(services, plain_run, "merged")
    started(services, plain_run, request, alive=True)
    (export,) = exports_of(plain_run)
    stop_export(export)
    assert not request.partial_path.exists()
    (export,) = exports_of(plain_run)
    assert (export.progress.state, active_exports(services.runs.root_dir)) == ("stopped", [])


def test_one_whose_process_is_gone_says_so_and_leaves_nothing(plain_run, services):
    request = workspace_request(services, plain_run, "merged")
    started(services, plain_run, request, alive=False)
    (export,) = exports_of(plain_run)
    assert export.progress.state == "failed"
    assert "never said why" in export.progress.message
    assert not request.partial_path.exists()


def test_one_that_begins_just_now_is_not_lost(plain_run, services):
    directory = started(
        services, plain_run, workspace_request(services, plain_run, "card"), alive=False
    )
    (directory / PROGRESS).unlink()
    assert exports_of(plain_run)[0].is_running
    long_ago = time.time() - 60
    os.utime(directory / REQUEST, (long_ago, long_ago))
    assert exports_of(plain_run)[0].progress.state == "failed"


def test_one_whose_process_cannot_be_seen_lives_while_it_holds_its_lock(plain_run, services):
    request = workspace_request(services, plain_run, "merged")
    directory = started(services, plain_run, request, alive=False)
    (directory / PROCESS).unlink()
    with FileLock(directory / LOCK):
        (export,) = exports_of(plain_run)
        assert export.is_running
        stop_export(export)  # it is asked, and cannot be ended
        assert exports_of(plain_run)[0].is_stopping
        assert request.partial_path.exists()
    assert exports_of(plain_run)[0].progress.state == "stopped"
    assert not request.partial_path.exists()


@pytest.mark.parametrize("alive", [True, False])
def test_an_upload_that_had_to_be_ended_may_have_arrived(plain_run, services, monkeypatch, alive):
    monkeypatch.setattr("workbench.export.process.PATIENCE_SECONDS", 0.2)
    request = hub_request(services, "adapter", "maria/juniper", private=True)
    started(services, plain_run, request, alive=alive, words=UPLOADING)
    (export,) = exports_of(plain_run)
    if alive:
        stop_export(export)
        (export,) = exports_of(plain_run)
    assert export.progress.state == "failed"
    assert "may have arrived, or not: look at https://" in export.progress.hint
    assert "/maria/juniper" in export.progress.hint


def test_before_the_upload_nothing_can_have_arrived(plain_run, services, monkeypatch):
    monkeypatch.setattr("workbench.export.process.PATIENCE_SECONDS", 0.2)
    request = hub_request(services, "merged", "maria/juniper", private=True)
    started(services, plain_run, request, alive=True, words="Merging")
    stop_export(exports_of(plain_run)[0])
    assert exports_of(plain_run)[0].progress.state == "stopped"


def test_a_run_is_not_deleted_while_it_is_exported(plain_run, services):
    request = workspace_request(services, plain_run, "merged")
    directory = started(services, plain_run, request, alive=False)
    with FileLock(directory / LOCK), pytest.raises(WorkbenchError, match="exported just now"):
        delete_run(services, plain_run)
    delete_run(services, plain_run)
    assert not plain_run.directory.exists()


def test_an_evaluation_one_asked_for_stands_in_the_way_and_the_other_gives_way(
    plain_run, services, monkeypatch
):
    monkeypatch.setattr("workbench.exports.start", lambda *arguments: "started")
    monkeypatch.setattr("workbench.evaluation.process.STOPPING_SECONDS", 0.1)
    path = write_evaluation(plain_run, EvaluationRequest(limit=3))
    request = workspace_request(services, plain_run, "merged")
    with FileLock(path.parent / LOCK):
        with pytest.raises(WorkbenchError, match="An evaluation runs just now"):
            start_export(services, plain_run, request)
        check_export(services, plain_run, workspace_request(services, plain_run, "adapter"))
        assert not (path.parent / STOP).exists()
        plain_run.evaluation_due_path.touch()
        assert start_export(services, plain_run, request) == "started"
        assert (path.parent / STOP).exists()


def test_the_size_of_an_adapter_is_of_what_is_taken_home(plain_run, services):
    (plain_run.model_dir / "optimizer.pt").write_bytes(b"x" * 1000)
    assert (
        export_bytes(services, plain_run, workspace_request(services, plain_run, "adapter")) == 10
    )


def test_the_folder_of_exports_may_be_a_link_to_another_disk(services, tmp_path):
    elsewhere = tmp_path / "large-disk"
    elsewhere.mkdir()
    run = make_run(services.runs, "linked")
    (services.settings.home_dir / "exports").symlink_to(elsewhere)
    request = workspace_request(services, run, "card")
    assert request.out_path.parent == services.settings.exports_dir == elsewhere
