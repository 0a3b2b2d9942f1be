"""``workbench models``: what is offered and what is here."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.made_runs import make_run
from workbench.cli import main
from workbench.config import STARTER_MODEL
from workbench.export.request import write_request
from workbench.exports import workspace_request
from workbench.settings import ensure_dir


@pytest.fixture
def here(settings, tiny_model_dir):
    for name in (STARTER_MODEL, "someone--tiny", "owner--half.partial"):
        shutil.copytree(tiny_model_dir, settings.models_dir / name)


def rows(capsys, *arguments):
    assert main(["models", "--json", *arguments]) == 0
    return {row["id"]: row for row in json.loads(capsys.readouterr().out)}


def test_offered_and_stored_models_are_listed(here, capsys):
    listed = rows(capsys)
    assert len(listed) >= 25 + 2
    assert listed[STARTER_MODEL]["here"]
    assert listed["someone/tiny"]["disk_bytes"] > 1000
    assert listed["owner/half"]["disk_bytes"] > 1000
    assert not listed["owner/half"]["here"]
    assert listed["qwen2.5-0.5b-instruct"]["licence"] == "Apache-2.0"
    assert main(["models"]) == 0
    assert "(not whole)" in capsys.readouterr().out


def test_what_an_evaluation_or_export_is_about_to_load_is_not_deleted(here, services, capsys):
    run = make_run(services.runs, "Mine", {"model": "Someone/Tiny"})  # as its hub spells it
    other = make_run(services.runs, "Other")
    make_run(services.runs, "Gone", {"model": "/a/folder/that/is/gone"})
    for one in (run, other):
        request_path = one.directory / "evaluations" / "e" / "request.json"
        request_path.parent.mkdir(parents=True)
        request_path.touch()  # its process is about to begin
    assert main(["models", "--delete", "someone/tiny"]) == 2
    assert '"Mine" is being evaluated' in capsys.readouterr().err
    shutil.rmtree(run.directory / "evaluations")
    write_request(
        ensure_dir(run.directory / "exports" / "x"), workspace_request(services, run, "adapter")
    )
    assert main(["models", "--delete", "someone/tiny"]) == 2
    assert "is being exported" in capsys.readouterr().err
    shutil.rmtree(run.directory / "exports")
    assert main(["models", "--delete", "someone/tiny"]) == 0


def test_a_model_is_deleted_and_nothing_outside_its_folder(here, capsys, settings):
    assert "someone/tiny" not in rows(capsys, "--delete", "someone/tiny")
    assert not (settings.models_dir / "someone--tiny").exists()
    assert main(["models", "--delete", "someone/tiny"]) == 2
    assert "not among the workbench's models" in capsys.readouterr().err
    assert main(["models", "--delete", "../../etc"]) == 2
