"""The real download code against a fake Hub, in the real child process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest

from tests.fake_hub import Hub
from tests.made_runs import make_run
from tests.waiting import wait_until
from workbench.config import build_config
from workbench.models.hub import look_up_on_hub, wanted_files
from workbench.models.sources import find_model
from workbench.models.store import ModelStore

NAME = "someone/tiny-chat"


@pytest.fixture
def hub(tiny_model_dir):
    hub = Hub()
    hub.add_folder(NAME, tiny_model_dir)
    with hub.serve():
        yield hub


@pytest.fixture
def fetch(settings, hub):
    def run(name=NAME, endpoint=None, **more):
        environment = os.environ | {
            "HF_ENDPOINT": endpoint or hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            **more,
        }
        command = [sys.executable, "-m", "workbench.models", name]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def store(settings):
    return ModelStore(settings)


def test_a_model_is_fetched_by_name_and_loads(fetch, store):
    result = fetch()
    assert result.returncode == 0, result.stderr
    source = find_model(NAME)
    assert store.is_here(source)
    assert store.progress(source).state == "done"
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(store.directory(source)).num_parameters() > 0


def test_code_and_pickles_in_the_repository_stay_there(fetch, hub, store):
    hub.repositories[NAME] |= {"modeling_evil.py": b"boom", "pytorch_model.bin": b"boom"}
    assert fetch().returncode == 0
    assert not {"modeling_evil.py", "pytorch_model.bin"} & set(hub.requested)
    names = {path.name for path in store.directory(find_model(NAME)).rglob("*")}
    assert not {"modeling_evil.py", "pytorch_model.bin"} & names


def test_weights_are_not_fetched_a_second_time_under_another_name(fetch, hub, store):
    hub.repositories[NAME]["consolidated.safetensors"] = b"the same once more"
    assert fetch().returncode == 0
    assert "consolidated.safetensors" not in hub.requested
    assert wanted_files(NAME, "", {"pytorch.safetensors": 5, "config.json": 1}) == {
        "pytorch.safetensors": 5,
        "config.json": 1,
    }


def test_weights_without_safetensors_are_refused(fetch, hub, store):
    files = hub.repositories[NAME]
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    result = fetch()
    assert result.returncode == 1
    assert "no safetensors weights" in result.stderr
    assert hub.requested == []


def test_an_interrupted_download_leaves_nothing_that_looks_finished(fetch, hub, store):
    hub.drop_after_bytes = 1000
    fetch(endpoint=None)  # huggingface_hub may try again by itself and succeed
    source = find_model(NAME)
    if not store.is_here(source):
        assert store.progress(source).state == "failed"
        assert fetch().returncode == 0
    size = (store.directory(source) / "model.safetensors").stat().st_size
    assert size == len(hub.repositories[NAME]["model.safetensors"])


def test_a_name_that_does_not_exist_is_a_sentence(fetch, store):
    result = fetch("someone/nothing")
    assert result.returncode == 1
    assert "There is no model someone/nothing on the Hugging Face Hub" in result.stderr
    assert not store.is_here(find_model("someone/nothing"))
    assert store.installed() == []


def test_a_gated_model_says_what_to_do(fetch, hub):
    hub.gated.add(NAME)
    result = fetch()
    assert result.returncode == 1
    assert f"https://huggingface.co/{NAME}, accept" in result.stderr


def test_no_network_is_a_sentence(fetch, store):
    result = fetch(endpoint="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "Check the network connection" in result.stderr
    assert store.progress(find_model(NAME)).state == "failed"
    assert store.installed() == []


@pytest.fixture
def online(hub, monkeypatch):
    hub.use(monkeypatch)
    return hub


def test_size_and_licence_are_known_before_the_download(online):
    online.tags, online.gated = ["text-generation", "license:mit"], {NAME}
    online.repositories[NAME]["pytorch_model.bin"] = b"x" * 10_000_000
    found = look_up_on_hub(NAME, "")
    files = online.repositories[NAME]
    wanted = sum(len(data) for name, data in files.items() if not name.endswith(".bin"))
    assert (found.download_bytes, found.licence, found.gated) == (wanted, "mit", True)
    assert found.architecture == {}  # a gated one shows it to nobody yet


def test_a_plan_knows_the_shape_before_the_download(online, store):
    source = find_model(NAME)
    assert store.facts(source).hidden_size is None
    store.look_up(source)
    assert store.facts(source).hidden_size == 64
    assert 50_000 < store.facts(source).parameters < 250_000
    assert not store.is_here(source)


def test_a_download_is_cancelled_and_goes_on_later(online, store, settings):
    # huggingface_hub writes 10 MiB at a time, and keeps whole files
    online.repositories[NAME]["model-2.safetensors"] = bytes(30 * 2**20)
    source = find_model(NAME)
    online.held = {"model-2.safetensors"}
    child = store.fetch_in_background(source)
    wait_until(lambda: store.progress(source).done_bytes > 10 * 2**20, 40)
    store.cancel(source)
    assert child.wait(timeout=30) == 1
    assert store.progress(source).state == "cancelled"
    assert [(model.source, model.is_whole) for model in store.installed()] == [(source, False)]
    assert list(settings.models_dir.rglob("*.incomplete"))
    online.held.clear()
    assert store.fetch_in_background(source).wait(timeout=60) == 0
    assert store.is_here(source)
    assert online.requested.count("model-2.safetensors") == 2
    assert online.requested.count("model.safetensors") == 1  # it was complete
    assert not list(settings.models_dir.rglob("*.incomplete"))


def test_a_typed_token_opens_a_gated_model_and_is_not_kept(online, store, settings):
    online.gated, online.token = {NAME}, "hf_very_secret"
    source = find_model(NAME)
    assert store.fetch_in_background(source, "hf_wrong").wait(timeout=60) == 1
    assert "is gated" in store.progress(source).message
    assert store.fetch_in_background(source, online.token).wait(timeout=60) == 0
    assert store.is_here(source)
    for path in settings.home_dir.rglob("*"):
        assert not path.is_file() or b"hf_" not in path.read_bytes(), path


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "in line"])
@pytest.mark.parametrize("begins", ["start", "resume"])
def test_a_typed_token_goes_with_a_run_and_is_not_kept(online, services, begins, waits):
    online.gated, online.token = {NAME}, "hf_very_secret"
    data = services.choose_data({"sample-identity": 1.0})
    plan = services.plan(build_config({"model": NAME}), data)
    failed = make_run(services.runs, values={"model": NAME}, outcome="failed")
    with services.supervisor.test_drive() if waits else nullcontext():
        if begins == "start":
            run = services.start(plan, data, "gated", token=online.token)
        else:
            services.resume(run := failed, online.token)
        wait_until(lambda: services.models.is_here(find_model(NAME)), 40)
        assert run.waiting_path.exists() == waits
        services.supervisor.request_stop(run)
        assert services.supervisor.wait(run, 60)
    for path in services.settings.home_dir.rglob("*"):
        assert not path.is_file() or b"hf_" not in path.read_bytes(), path


def test_a_run_that_is_stopped_while_it_downloads_ends_at_once(online, services):
    online.held = {"model.safetensors"}
    data = services.choose_data({"sample-identity": 1.0})
    run = services.create_run(services.plan(build_config({"model": NAME}), data), data, "waits")
    services.supervisor.start(run)
    wait_until(lambda: services.supervisor.snapshot(run).download, 40)
    services.supervisor.request_stop(run)
    assert services.supervisor.wait(run, 20)  # the Hub still holds the file back
    snapshot = services.supervisor.snapshot(run)
    assert (snapshot.state, snapshot.message) == ("stopped", "Stopped before training began.")
