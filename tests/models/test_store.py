import os
import threading

import pytest

from tests.waiting import wait_until
from workbench.downloads import FetchProgress, write_progress
from workbench.errors import WorkbenchError
from workbench.models import store as store_module
from workbench.models.facts import Shape, model_facts
from workbench.models.sources import find_model, source_of_slug
from workbench.models.store import ModelStore


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "",
            "/etc",
            "../x",
            "a/b/c",
            "a/../b",
            "..",
            "owner/",
            "x/..",
            "C:\\x",
            "a b/c",
            "no-slash",
        ),
        *(
            "local:",
            "local:..",
            "local:a/b",
            "local:/etc",
            "local:a--b",
            "modelscope:",
            "modelscope:a/b/c",
        ),
        *(
            "a/b/../c.gguf",
            "a/b/c/d.gguf",
            "modelscope:../b",
            "https://huggingface.co/../etc",
            "~/m",
        ),
    ],
)
def test_the_page_takes_ids_never_paths(bad):
    with pytest.raises(WorkbenchError, match="There is no model"):
        find_model(bad)


@pytest.mark.parametrize(
    ("typed", "kind", "location", "file"),
    [
        ("owner/name", "hub", "owner/name", ""),
        ("https://huggingface.co/owner/name/tree/main", "hub", "owner/name", ""),
        (" https://huggingface.co/owner/name?x=1 ", "hub", "owner/name", ""),
        ("owner/name/x-Q8_0.gguf", "hub", "owner/name", "x-Q8_0.gguf"),
        ("modelscope:owner/name", "modelscope", "owner/name", ""),
        ("https://www.modelscope.cn/models/owner/name/summary", "modelscope", "owner/name", ""),
        ("modelscope:owner/name/x.GGUF", "modelscope", "owner/name", "x.GGUF"),
        ("local:mine", "local", "mine", ""),
        ("local:mine.gguf", "local", "mine.gguf", "mine.gguf"),
    ],
)
def test_a_model_is_typed_in_many_ways(typed, kind, location, file):
    source = find_model(typed)
    assert (source.kind, source.location, source.file) == (kind, location, file)
    assert find_model(source.id) == source
    assert not set('/:\\<>"|?*') & set(source.slug)
    again = source_of_slug(source.slug)
    assert again is not None
    assert again.slug == source.slug


def test_a_folder_is_taken_on_the_command_line_only(tmp_path):
    assert find_model(str(tmp_path), allow_folder=True).kind == "folder"
    with pytest.raises(WorkbenchError):
        find_model(str(tmp_path))


def test_distinct_names_have_distinct_folders():
    names = ["a/b-c", "a-b/c", "modelscope:a/b-c", "local:a", "a/b/c.gguf", "modelscope:a/b/c.gguf"]
    assert len({find_model(name).slug for name in names}) == len(names)
    for name in ("a/b--c", "a--b/c"):  # the Hub has no such names, so "--" can stand for the slash
        with pytest.raises(WorkbenchError, match="no model"):
            find_model(name)


def test_sizes_come_from_the_files_or_the_name(tiny_model_dir, tmp_path):
    facts = model_facts(find_model(str(tiny_model_dir), allow_folder=True), tiny_model_dir)
    assert facts.hidden_size == 64
    assert 50_000 < facts.parameters < 250_000
    assert model_facts(find_model("owner/Great-7B-Chat"), tmp_path).parameters == 7_000_000_000
    assert model_facts(find_model("owner/great-1.5b"), tmp_path).parameters == 1_500_000_000
    assert model_facts(find_model("owner/model"), tmp_path).parameters is None
    assert model_facts(find_model("owner/Great-8x7B"), tmp_path).parameters is None


MIXTURE = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "vocab_size": 151936,
    "num_experts": 128,
}


def test_a_mixture_of_experts_is_not_taken_for_the_small_model_its_sizes_look_like(tmp_path):
    facts = model_facts(find_model("owner/Big-30B-A3B"), tmp_path, MIXTURE, 61_000_000_000)
    assert facts.has_experts
    assert (facts.parameters, facts.missing_bytes) == (30_000_000_000, 61_000_000_000)
    assert Shape.of(MIXTURE) is None
    assert Shape.of(MIXTURE | {"num_experts": 0}) is not None


def test_what_has_to_be_downloaded_is_what_the_hub_said_or_follows_from_the_weights(
    tiny_model_dir, tmp_path
):
    def missing(name, **known):
        return model_facts(find_model(name), tmp_path, **known).missing_bytes

    assert missing("owner/great-7b") == 14_000_000_000
    assert missing("owner/great-7b", download_bytes=5_000) == 5_000
    assert missing("owner/great-7b/x.gguf", download_bytes=5_000) == 14_000_005_000  # and converted
    assert missing("owner/great", download_bytes=None) is None
    assert missing("qwen3-0.6b") > 1_190_000_000
    here = model_facts(find_model(str(tiny_model_dir), allow_folder=True), tiny_model_dir)
    assert here.missing_bytes == 0


@pytest.fixture
def fetches(monkeypatch, tiny_model_dir):
    """Replace the download by a slow copy that counts."""
    import shutil
    import time

    calls = []

    def fetch(repository, file, directory, report):
        calls.append(repository)
        time.sleep(0.5)
        shutil.copytree(tiny_model_dir, directory, dirs_exist_ok=True)

    monkeypatch.setattr(store_module, "fetch_from_hub", fetch)
    return calls


def test_two_who_want_the_same_model_fetch_it_once(settings, fetches):
    source = find_model("owner/name")
    threads = [
        threading.Thread(target=ModelStore(settings).ensure, args=(source, lambda progress: None))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetches == ["owner/name"]
    assert ModelStore(settings).is_here(source)


def test_a_failed_fetch_says_why_and_the_next_one_tries_again(settings, monkeypatch, fetches):
    source, store = find_model("owner/name"), ModelStore(settings)
    works = store_module.fetch_from_hub

    def fail(repository, file, directory, report):
        (directory / "half").write_text("x")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "fetch_from_hub", fail)
    with pytest.raises(WorkbenchError, match="No space left"):
        store.ensure(source, lambda progress: None)
    assert not store.is_here(source)
    assert store.progress(source).state == "failed"
    monkeypatch.setattr(store_module, "fetch_from_hub", works)
    store.ensure(source, lambda progress: None)
    assert store.is_here(source)


def test_what_is_on_the_disk_is_listed_and_deleted(settings, fetches):
    store, source = ModelStore(settings), find_model("Owner/Name")
    assert store.installed() == []
    store.ensure(source, lambda progress: None)
    [stored] = store.installed()
    assert find_model(stored.source.id).slug == source.slug
    assert stored.is_whole
    assert stored.size_bytes > 1000
    store.delete(stored.source)
    assert not store.is_here(source)
    assert store.installed() == []
    with pytest.raises(WorkbenchError, match="not among"):
        store.delete(source)


def test_a_model_that_is_being_downloaded_is_not_deleted(settings, fetches):
    store, source = ModelStore(settings), find_model("owner/name")
    thread = threading.Thread(target=store.ensure, args=(source, lambda progress: None))
    thread.start()
    wait_until(lambda: fetches)
    with pytest.raises(WorkbenchError, match="being downloaded"):
        store.delete(source)
    thread.join()
    assert store.is_here(source)


def test_a_download_whose_process_died_is_not_shown_for_ever(settings):
    store, source = ModelStore(settings), find_model("owner/name")
    path = settings.models_dir / "owner--name.progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_progress(path, FetchProgress("downloading", 5, 10))
    assert store.progress(source).state == "downloading"
    os.utime(path, (1, 1))
    assert store.progress(source) == FetchProgress("failed", 5, 10, "The download was interrupted.")
