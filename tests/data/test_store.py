import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.data.sample_files import ALPACA, FILES, as_json
from workbench.config import build_config
from workbench.data.adding import add_in_child
from workbench.data.check import check_file
from workbench.data.conversations import find_stored_rows, read_conversations
from workbench.data.formats import Mapping
from workbench.data.store import SAMPLES
from workbench.deleting import delete_dataset
from workbench.errors import WorkbenchError
from workbench.runs import queue
from workbench.runs.store import DataPart, DataReference


def write(tmp_path, rows, name="mine.json"):
    path = tmp_path / name
    path.write_bytes(as_json(rows))
    return path


def test_a_file_is_kept_with_its_report_and_found_again(services, tmp_path):
    path = write(tmp_path, ALPACA, "My Rows (1).json")
    info = services.datasets.add(path, "My Rows (1).json")
    report = check_file(path, path.name)
    original = path.read_bytes()
    path.unlink()
    assert (info.row_count, info.is_usable) == (25, True)
    assert info.id.startswith("my-rows-1-")
    assert services.datasets.info(info.id) == info
    assert services.datasets.report(info.id) == report
    assert services.datasets.original_path(info.id).read_bytes() == original
    assert services.datasets.uploads() == [info]
    assert len(read_conversations(services.datasets.path(info.id))) == 25
    assert [row.row for row in services.datasets.rows(info.id, 20, 10)] == [21, 22, 23, 24, 25]


def test_the_same_content_twice_is_one_dataset_and_read_otherwise_another(services, tmp_path):
    path = write(tmp_path, ALPACA)
    ids = {services.datasets.add(path, "mine.json").id for _ in range(2)}
    assert len(ids) == 1
    other = services.datasets.add(path, "mine.json", Mapping("input", "output"))
    assert other.id not in ids
    assert len(services.datasets.uploads()) == 2


def test_a_file_with_errors_is_kept_and_cannot_be_trained_on(services, tmp_path):
    info = services.datasets.add(write(tmp_path, [*ALPACA, {"instruction": "Q"}]), "mine.json")
    assert (info.row_count, info.is_usable) == (25, False)
    with pytest.raises(WorkbenchError, match=r"1 row without an answer.*Row 26 \(line 1\)"):
        services.datasets.usable(info.id)


def test_what_is_written_are_the_rows_of_the_file(services, tmp_path):
    rows = [ALPACA[0], {"instruction": "Q"}, {"instruction": "Wo?", "output": "Dort drüben."}]
    info = services.datasets.add(write(tmp_path, rows), "mine.json")
    stored = services.datasets.rows(info.id)
    assert [(row.row, row.messages[-1]["content"]) for row in stored] == [
        (1, ALPACA[0]["output"]),
        (3, "Dort drüben."),
    ]
    path = services.datasets.path(info.id)
    assert [place for place, _ in find_stored_rows(path, "DRÜBEN", 5)] == [1]


def test_samples_are_datasets_like_any_other_and_follow_the_project(
    services, monkeypatch, tmp_path
):
    info = services.datasets.info("sample-identity")
    assert (info.row_count, info.is_usable) == (180, True)
    assert services.datasets.uploads() == []
    (tmp_path / "identity.json").write_bytes(as_json(ALPACA))
    monkeypatch.setattr("workbench.data.store.SAMPLES_DIR", tmp_path)
    assert services.datasets.info("sample-identity").row_count == 25


def test_many_who_ask_for_a_new_sample_at_once_all_get_it(services, monkeypatch):
    checked = []

    def check_slowly(*arguments):
        checked.append(arguments)
        time.sleep(0.3)
        return check_file(*arguments)

    monkeypatch.setattr("workbench.data.store.check_file", check_slowly)

    def ask(_):
        return services.datasets.report("sample-reviews").usable_rows

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(24))) == {320}
    assert len(checked) == 1


def test_what_a_killed_check_left_goes_with_the_next(services, settings, tmp_path):
    left = settings.datasets_dir / ".upload-0123.456.part"
    left.mkdir(parents=True)
    (left / "original").write_text("half")
    services.datasets.add(write(tmp_path, ALPACA), "mine.json")
    assert not left.exists()


def test_a_dataset_that_a_run_is_about_to_read_cannot_be_deleted(services, tmp_path):
    info = services.datasets.add(write(tmp_path, ALPACA), "mine.json")
    plan = services.plan(build_config(), services.choose_data({info.id: 1}))
    part = DataPart(info.id, info.name, str(services.datasets.path(info.id)), info.sha256, 25)
    data = DataReference((part,), None, 0.0, 42)
    run = services.runs.create(plan.config, data, "waiting", plan.reasons, None)
    queue.join(services.runs, run)
    with pytest.raises(WorkbenchError, match="The run waiting needs this dataset"):
        delete_dataset(services, info.id)
    assert services.datasets.info(info.id) == info


def test_renaming_and_deleting(services, tmp_path):
    info = services.datasets.add(write(tmp_path, ALPACA), "mine.json")
    assert services.datasets.rename(info.id, "  French  ").name == "French"
    assert services.datasets.report(info.id).name == "French"
    with pytest.raises(WorkbenchError):
        services.datasets.rename(info.id, " ")
    copy = services.datasets.download_path(info.id)
    assert copy.read_bytes() == as_json(ALPACA)
    services.datasets.delete(info.id)
    assert not copy.exists()
    assert services.datasets.uploads() == []
    with pytest.raises(WorkbenchError, match="here any more"):
        services.datasets.info(info.id)
    for verb in (services.datasets.delete, lambda sample: services.datasets.rename(sample, "x")):
        with pytest.raises(WorkbenchError, match="sample"):
            verb(next(iter(SAMPLES)))


@pytest.mark.parametrize(
    "bad_id", ["../../etc", "/etc/passwd", "a/b", "", "UPPER", ".hidden", "a" * 99]
)
def test_ids_are_never_paths(services, bad_id):
    for verb in (services.datasets.info, services.datasets.rows, services.datasets.delete):
        with pytest.raises(WorkbenchError):
            verb(bad_id)


def test_an_upload_above_the_limit_is_refused(services, tmp_path):
    path = write(tmp_path, ALPACA)
    object.__setattr__(services.settings, "upload_limit_bytes", 10)
    with pytest.raises(WorkbenchError, match="the limit is"):
        services.datasets.add(path, "mine.json")


def test_a_folder_that_cannot_be_written_is_a_sentence(services, tmp_path):
    services.settings.home_dir.mkdir(parents=True)
    services.settings.datasets_dir.write_text("in the way")
    with pytest.raises(WorkbenchError, match="Free some space"):
        services.datasets.add(write(tmp_path, ALPACA), "mine.json")


def test_the_page_adds_in_a_child_process(services, settings, tmp_path):
    path = tmp_path / "any.xlsx"
    path.write_bytes(FILES["alpaca.xlsx"])
    info = add_in_child(settings, path, "any.xlsx", Mapping("instruction", "output"))
    assert services.datasets.report(info.id).container == "xlsx"
    assert (
        json.loads((settings.datasets_dir / info.id / "info.json").read_text())["row_count"] == 25
    )
    with pytest.raises(WorkbenchError, match="no column `x`"):
        add_in_child(settings, path, "any.xlsx", Mapping("x", "output"))


def test_a_file_that_crashes_the_reader_is_a_sentence(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.data.adding.CHILD", ["-c", "import os; os.abort()"])
    with pytest.raises(WorkbenchError, match="could not be checked"):
        add_in_child(settings, write(tmp_path, ALPACA), "mine.json")
