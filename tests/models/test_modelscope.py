"""The real download code against a fake ModelScope."""

from __future__ import annotations

import pytest

from tests.fake_modelscope import ModelScope
from workbench.errors import WorkbenchError
from workbench.models.sources import find_model
from workbench.models.store import ModelStore

NAME = "someone/tiny-chat"
ID = f"modelscope:{NAME}"


@pytest.fixture
def scope(tiny_model_dir, monkeypatch):
    scope = ModelScope()
    scope.repositories[NAME] = {path.name: path.read_bytes() for path in tiny_model_dir.iterdir()}
    with scope.serve():
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", scope.endpoint)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield scope


@pytest.fixture
def store(settings):
    return ModelStore(settings)


def ensure(store, model_id=ID):
    return store.ensure(find_model(model_id), lambda progress: None)


def test_a_model_is_fetched_and_loads(scope, store):
    from transformers import AutoModelForCausalLM

    evil = {"modeling_evil.py": b"boom", "pytorch_model.bin": b"boom", "../up.json": b"boom"}
    scope.repositories[NAME] |= evil
    model_dir = ensure(store)
    assert AutoModelForCausalLM.from_pretrained(model_dir).num_parameters() > 0
    assert not set(evil) & {name for name, _ in scope.requested}
    assert not list(store._settings.models_dir.rglob("up.json"))


def test_size_licence_and_shape_are_known_before_the_download(scope, store):
    source = find_model(ID)
    assert store.facts(source).hidden_size is None
    found = store.look_up(source)
    assert found.download_bytes == sum(map(len, scope.repositories[NAME].values()))
    assert found.licence == "apache-2.0"
    assert store.facts(source).hidden_size == 64
    assert 50_000 < store.facts(source).parameters < 250_000


def test_an_interrupted_download_goes_on_where_it_ended(scope, store):
    size = len(scope.repositories[NAME]["model.safetensors"])
    scope.cut_at_bytes = size // 2
    with pytest.raises(WorkbenchError, match="could not be downloaded from ModelScope"):
        ensure(store)
    assert not store.is_here(find_model(ID))
    scope.cut_at_bytes = None
    model_dir = ensure(store)
    assert (model_dir / "model.safetensors").stat().st_size == size
    starts = [start for name, start in scope.requested if name == "model.safetensors"]
    assert starts == [0, size // 2]


def test_a_file_with_another_hash_is_refused(scope, store):
    scope.wrong = {"model.safetensors"}
    with pytest.raises(WorkbenchError, match=r"model\.safetensors .* not as it should be"):
        ensure(store)
    assert not store.is_here(find_model(ID))


def test_what_goes_wrong_is_a_sentence(scope, store, monkeypatch):
    with pytest.raises(WorkbenchError, match="no model someone/nothing on ModelScope"):
        ensure(store, "modelscope:someone/nothing")
    scope.private, scope.token = {NAME}, "ms-very-secret"
    with pytest.raises(WorkbenchError, match="does not give"):
        ensure(store)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WorkbenchError, match="Check the network connection"):
        ensure(store)


def test_a_typed_token_reaches_the_download_and_is_not_kept(scope, store, settings):
    scope.private, scope.token = {NAME}, "ms-very-secret"
    assert store.fetch_in_background(find_model(ID), scope.token).wait(timeout=60) == 0
    assert store.is_here(find_model(ID))
    for path in settings.home_dir.rglob("*"):
        assert not path.is_file() or b"ms-very" not in path.read_bytes(), path
