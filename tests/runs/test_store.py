import json
import shutil
from collections import namedtuple
from dataclasses import asdict, replace

import pytest
import yaml

from tests.made_runs import DATA, PART
from workbench.config import build_config
from workbench.errors import WorkbenchError
from workbench.runs import store as store_module
from workbench.runs.store import DataReference, RunStore
from workbench.settings import Settings


@pytest.fixture
def store(settings):
    return RunStore(settings)


def test_a_run_comes_back_as_it_was_made(store):
    config = build_config({"learning_rate": 1e-5})
    run = store.create(config, DATA, "Käse & Brot", {"epochs": "because"}, 12.5)
    assert store.get(run.id) == run
    assert (run.name, run.config, run.data, run.planned_seconds) == (
        "Käse & Brot",
        config,
        DATA,
        12.5,
    )


def test_config_yaml_holds_every_setting_and_its_version(store):
    run = store.create(build_config(), DATA, "r", {}, None)
    written = yaml.safe_load((run.directory / "config.yaml").read_text())
    assert written["schema_version"] == 1
    assert set(written) == set(build_config().model_dump())


def test_latest_is_the_newest_and_ids_are_never_reused(store):
    runs = [store.create(build_config(), DATA, "same", {}, None) for _ in range(3)]
    assert len({run.id for run in runs}) == 3
    assert store.get("latest").id == store.ids()[0] == max(run.id for run in runs)


def test_the_newest_is_the_one_made_last_when_clocks_go_back_for_winter(store, monkeypatch):
    for created, local in ((1e9, "20261025-025900"), (1e9 + 120, "20261025-020100")):
        monkeypatch.setattr("workbench.runs.store.time.time", lambda now=created: now)
        monkeypatch.setattr("workbench.runs.store.time.strftime", lambda _, now=local: now)
        store.create(build_config(), DATA, "r", {}, None)
    assert store.ids() == ["20261025-020100-r", "20261025-025900-r"]
    assert RunStore(Settings(home_dir=store.root_dir.parent)).ids() == store.ids()


def test_two_processes_that_make_the_same_name_at_once_both_get_a_run(store, monkeypatch):
    monkeypatch.setattr("workbench.runs.store.time.strftime", lambda _: "20261126-120000")
    half_made_dir = store.root_dir / ".20261126-120000-same.part"  # the other process is at it
    half_made_dir.mkdir(parents=True)
    (half_made_dir / "config.yaml").touch()
    run = store.create(build_config(), DATA, "same", {}, None)
    assert run.id == "20261126-120000-same-2"
    assert (half_made_dir / "config.yaml").exists()


def test_a_run_that_is_deleted_while_runs_are_listed_is_left_out(store, monkeypatch):
    kept, gone = (store.create(build_config(), DATA, "r", {}, None) for _ in range(2))
    other = RunStore(Settings(home_dir=store.root_dir.parent))
    read = store_module.read_json

    def read_after_deleting(path):
        if gone.directory.exists():
            store.delete(gone)
        return read(path)

    monkeypatch.setattr(store_module, "read_json", read_after_deleting)
    assert other.ids() == [kept.id]


@pytest.mark.parametrize("bad", ["../x", "/etc", "", "nope", "a/../b", ".start.lock", "LATEST"])
def test_an_id_is_never_a_path(store, bad):
    store.create(build_config(), DATA, "r", {}, None)
    with pytest.raises(WorkbenchError, match="There is no run"):
        store.get(bad)


def test_no_run_yet_is_a_sentence(store):
    with pytest.raises(WorkbenchError, match="no run yet"):
        store.get("latest")
    assert store.ids() == []


def test_a_full_disk_is_told_before_anything_is_written(store, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(WorkbenchError, match="MB free"):
        store.create(build_config(), DATA, "r", {}, None)
    assert store.ids() == []


def test_a_mix_with_its_own_validation_comes_back(store):
    parts = (PART, replace(PART, id="e", weight=0.5))
    run = store.create(build_config(), DataReference(parts, PART, 0.0, 1), "mix", {}, None)
    assert store.get(run.id).data == DataReference(parts, PART, 0.0, 1)


def test_a_run_from_before_mixes_still_opens(store):
    run = store.create(build_config(), DATA, "old", {}, None)
    old = {**asdict(PART), "validation_share": 0.1, "seed": 42}
    del old["weight"]
    (run.directory / "data.json").write_text(json.dumps(old))
    assert store.get(run.id).data == DATA


def test_a_label_changes_what_is_shown_and_nothing_else(store, settings):
    run = store.create(build_config(), DATA, "first name", {}, None)
    named = store.label(run, "  Better\n name ", ["b", " a ", "", "b"], " a note ")
    assert (named.name, named.tags, named.note) == ("Better name", ("a", "b"), "a note")
    assert store.get(run.id) == named == RunStore(settings).get(run.id)
    assert json.loads((run.directory / "run.json").read_text())["name"] == "first name"
    with pytest.raises(WorkbenchError, match="needs a name"):
        store.label(run, "  ", [], "")


def test_a_deleted_run_is_gone_whole(store):
    kept, gone = (store.create(build_config(), DATA, name, {}, None) for name in ("a", "b"))
    gone.model_dir.mkdir()
    (store.root_dir / ".earlier.deleted" / "model").mkdir(parents=True)  # ended in the middle of it
    store.delete(gone)
    assert store.all() == [kept]
    assert [path.name for path in store.root_dir.iterdir()] == [kept.id]
    with pytest.raises(WorkbenchError, match="There is no run"):
        store.get(gone.id)


@pytest.mark.parametrize("damaged", ["run.json", "config.yaml", "data.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[]", "schema_version: 99\n"])
def test_a_damaged_run_does_not_hide_the_others(store, settings, damaged, content):
    whole, broken = (store.create(build_config(), DATA, name, {}, None) for name in ("a", "b"))
    path = broken.directory / damaged
    path.unlink() if content is None else path.write_text(content)
    assert RunStore(settings).all() == [whole]


def test_runs_moved_to_another_computer_are_read_there(store, tmp_path):
    run = store.create(build_config(), DATA, "travels", {}, None)
    shutil.move(store.root_dir, tmp_path / "elsewhere")
    moved = RunStore(Settings(home_dir=tmp_path), tmp_path / "elsewhere").get(run.id)
    assert (moved.name, moved.config, moved.data) == (run.name, run.config, run.data)
    assert moved.directory == tmp_path / "elsewhere" / run.id
