"""GGUF files, of one's own or from a hub, become a model that can be trained."""

from __future__ import annotations

import shutil

import pytest
import torch

from tests.fake_hub import Hub
from tests.tiny_model import build_tiny_gguf
from workbench.errors import WorkbenchError
from workbench.models.facts import Shape
from workbench.models.rendering import load_tokenizer
from workbench.models.sources import find_model
from workbench.models.store import ModelStore


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory, tiny_model_dir):
    return build_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_model_dir)


@pytest.fixture
def own_models(settings):
    settings.local_models_dir.mkdir(parents=True)
    return settings.local_models_dir


def assert_same_model(found_dir, expected_dir):
    from transformers import AutoModelForCausalLM

    found = AutoModelForCausalLM.from_pretrained(found_dir).state_dict()
    expected = AutoModelForCausalLM.from_pretrained(expected_dir, dtype=torch.bfloat16).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    messages = [{"role": "user", "content": "Grüße"}]
    one, other = load_tokenizer(found_dir), load_tokenizer(expected_dir)
    assert one.apply_chat_template(messages) == other.apply_chat_template(messages)


def test_a_file_of_ones_own_is_offered_and_converted(
    settings, own_models, gguf_file, tiny_model_dir
):
    store = ModelStore(settings)
    shutil.copy(gguf_file, own_models)
    (own_models / "notes.txt").write_text("no model")
    [source] = store.own_models()
    assert source.id == "local:tiny.gguf"
    store.check(source)
    before = store.facts(source)
    assert_same_model(store.ensure(source, lambda progress: None), tiny_model_dir)
    after = store.facts(source)
    assert before.missing_bytes == 2 * before.parameters
    assert Shape.of(before.architecture) == Shape.of(after.architecture)
    assert before.parameters == pytest.approx(after.parameters, rel=0.01)  # norms are not counted
    assert before.context_tokens == after.context_tokens == 512
    assert before.architecture["model_type"] == "llama"
    assert (own_models / "tiny.gguf").exists()
    store.delete(source)
    assert (own_models / "tiny.gguf").exists()


def test_a_folder_of_ones_own_is_used_where_it_is(settings, own_models, tiny_model_dir):
    store = ModelStore(settings)
    shutil.copytree(tiny_model_dir, own_models / "mine")
    [source] = store.own_models()
    store.check(source)
    assert store.ensure(source, lambda progress: None) == own_models / "mine"
    with pytest.raises(WorkbenchError, match="not among"):
        store.delete(source)
    assert (own_models / "mine" / "config.json").exists()


def test_what_is_not_there_or_no_model_is_a_sentence(settings, own_models):
    store = ModelStore(settings)
    with pytest.raises(WorkbenchError, match=r"no gone\.gguf"):
        store.check(find_model("local:gone.gguf"))
    with pytest.raises(WorkbenchError, match="holds no model"):
        store.check(find_model("local:gone"))
    (own_models / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    source = find_model("local:broken.gguf")
    assert store.facts(source).parameters is None
    with pytest.raises(WorkbenchError, match=r"broken\.gguf cannot be converted"):
        store.ensure(source, lambda progress: None)
    assert not store.is_here(source)


def test_one_file_of_a_repository_is_taken(settings, gguf_file, tiny_model_dir, monkeypatch):
    hub = Hub()
    hub.repositories["someone/tiny-gguf"] = {
        "tiny.gguf": gguf_file.read_bytes(),
        "other.gguf": b"x",
    }
    with hub.serve():
        hub.use(monkeypatch)
        store = ModelStore(settings)
        with pytest.raises(WorkbenchError, match=r"Write someone/tiny-gguf/other\.gguf"):
            store.look_up(find_model("someone/tiny-gguf"))
        with pytest.raises(WorkbenchError, match=r"no file x\.gguf.*It has other\.gguf, tiny"):
            store.look_up(find_model("someone/tiny-gguf/x.gguf"))
        model_dir = store.ensure(find_model("someone/tiny-gguf/tiny.gguf"), lambda progress: None)
    assert hub.requested == ["tiny.gguf"]
    assert_same_model(model_dir, tiny_model_dir)
    assert not list(model_dir.glob("*.gguf"))
