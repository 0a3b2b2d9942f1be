"""What page and terminal share."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace

import psutil
import pytest

from tests.made_runs import make_run
from workbench import services as services_module
from workbench.hardware import Gpu
from workbench.runs.side_by_side import model_label
from workbench.services import Services
from workbench.settings import Settings


def test_whatever_goes_wrong_with_the_line_is_logged_and_it_is_looked_after_again(
    services, monkeypatch, capsys
):
    looked_again = threading.Event()
    failures = iter([psutil.TimeoutExpired(10), TypeError("list indices must be integers")])

    def advance(before_start):
        for failure in failures:
            raise failure
        looked_again.set()
        threading.Event().wait()  # the thread ends with the tests

    monkeypatch.setattr("workbench.services.LOOK_SECONDS", 0)
    monkeypatch.setattr(services.supervisor, "advance", advance)
    services.look_after_runs()
    assert looked_again.wait(10)
    told = capsys.readouterr().err
    assert "TimeoutExpired" in told
    assert "list indices must be integers" in told


def test_a_speed_is_that_of_the_same_device_and_number_format(services, monkeypatch):
    make_run(services.runs, "on the processor, in fp32")  # 400 tokens a second
    no_card = services_module.look(services.settings.home_dir)
    card = Gpu("Card", 24 * 10**9, 24 * 10**9, has_bf16=True)
    data = services.choose_data({"sample-identity": 1.0})

    def measured(gpus=(), **values):
        monkeypatch.setattr(services_module, "look", lambda home_dir: replace(no_card, gpus=gpus))
        machine = services.plan(services.configure(None, values), data).machine
        return machine.measured_tokens_per_second

    assert measured(precision="fp32") == measured() == pytest.approx(400)
    assert measured(precision="bf16") is None
    assert measured(gpus=(card,)) is None
    assert measured(gpus=(card,), precision="fp32") is None


def test_a_run_of_a_model_on_a_hub_never_takes_a_folder_of_that_name(
    services, tmp_path, tiny_model_dir, monkeypatch
):
    (tmp_path / "owner").mkdir()
    folder = shutil.copytree(tiny_model_dir, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    data = services.choose_data({"sample-identity": 1.0})

    def made(*chosen, **where):
        return services.create_run(
            services.plan(services.configure(*chosen, **where), data), data, ""
        )

    run = made(None, {"model": "owner/name"})
    assert (run.config.model, model_label(run)) == ("owner/name", "owner/name")
    assert services._secrets(run, "hf_1")["HF_TOKEN"] == "hf_1"  # it is to be downloaded
    again = made(f"run:{run.id}", {}, allow_folder=True)  # as in the terminal
    assert again.config.model == "owner/name"
    typed = made(None, {"model": "owner/name"}, allow_folder=True)
    assert (typed.config.model, model_label(typed)) == (str(folder), "name")
    assert made(f"run:{typed.id}", {}, allow_folder=True).config.model == str(folder)


def test_a_workspace_that_was_moved_finds_the_data_of_its_runs(services, alpaca_file, tmp_path):
    data = services.choose_data({services.datasets.add(alpaca_file, alpaca_file.name).id: 1.0})
    plan = services.plan(services.configure(None, {"keep_general": False}), data)
    run = services.create_run(plan, data, "moved")
    before = run.data.parts[0]
    moved_dir = services.settings.home_dir.rename(tmp_path / "elsewhere")
    moved = Services.for_workspace(Settings(home_dir=moved_dir))
    part = moved.runs.get(run.id).data.parts[0]
    assert part.path.startswith(str(moved_dir))
    assert replace(part, path=before.path) == before
