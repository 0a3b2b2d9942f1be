"""Several processes that train together make the model that one makes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.distributed_c10d import Backend, BackendConfig

from tests.training.test_resume import curve, make_run
from tests.waiting import wait_until
from workbench.runs.checkpoints import complete_checkpoints
from workbench.runs.events import EvaluationEvent, FinishedEvent, read_events
from workbench.services import Services
from workbench.settings import Settings
from workbench.training.team import backends

pytestmark = pytest.mark.timeout(600)
ONE = [sys.executable, "-m", "workbench.training"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture
def services(tmp_path):
    return Services.for_workspace(Settings(home_dir=tmp_path / "home"))


def command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def train(services, run, command):
    """Train a run in processes of its own; return its events and what it saved."""
    environment = os.environ | {"WORKBENCH_HOME": str(services.settings.home_dir)}
    with run.log_path.open("w") as log:
        subprocess.run(
            [*command, str(run.directory)], env=environment, stdout=log, stderr=log, check=True
        )
    events, _ = read_events(run.events_path)
    (weights,) = run.model_dir.glob("*.safetensors")
    return events, load_file(weights)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("lora", {"batch_size": 3, "keep_general": True, "lora_dropout": 0.0}),
        ("full", {"learning_rate": 1e-4, "neftune_alpha": 0.0}),
    ],
)
def test_two_processes_are_one(services, tiny_model_dir, method, changes):
    changes |= {"precision": "fp32", "evaluate_after": 0}
    runs = [make_run(services, tiny_model_dir, method, **changes) for _ in "12"]
    (alone, weights), (together, of_two) = (
        train(services, run, command)
        for run, command in zip(runs, [ONE, [*TWO, "-m", "workbench.training"]], strict=True)
    )
    assert [event.kind for event in together] == [event.kind for event in alone]
    assert len(curve(alone)) == 6
    for of_one, of_both in zip(curve(alone), curve(together), strict=True):
        assert of_both == pytest.approx(of_one, rel=1e-4)
    losses = [[e.loss for e in run if isinstance(e, EvaluationEvent)] for run in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(of_two[name], weight, rtol=1e-3, atol=1e-5)
    assert isinstance(together[-1], FinishedEvent)
    assert together[-1].outcome == "finished"
    kept = [[c.step for c in complete_checkpoints(run.checkpoints_dir)] for run in runs]
    assert {3, 6} <= set(kept[0])
    assert kept[1] == kept[0]


def test_numbers_go_between_processors_and_gradients_between_cards(monkeypatch):
    assert backends() == "gloo"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    carriers = BackendConfig(Backend(backends())).get_device_backend_map()
    assert (carriers["cpu"], carriers["cuda"]) == ("gloo", "nccl")


def test_all_stop_after_the_same_step(services, tiny_model_dir):
    services = Services.for_workspace(replace(services.settings, processes=2))
    run = make_run(services, tiny_model_dir, "lora", max_steps=10_000, evaluate_after=0)
    services.supervisor.start(run)

    def has_begun():
        assert services.supervisor.active_run(), run.log_path.read_text()
        return services.supervisor.snapshot(run).steps

    wait_until(has_begun, 240)
    ours = [p for p in psutil.process_iter() if str(run.directory) in command_line(p)]
    assert len(ours) == 3  # torchrun and two that train
    services.supervisor.request_stop(run)
    psutil.wait_procs(ours, timeout=120)
    snapshot = services.supervisor.snapshot(run)
    assert snapshot.state == "stopped"
    assert run.model_dir.is_dir()
    assert not any(process.is_running() for process in ours)
