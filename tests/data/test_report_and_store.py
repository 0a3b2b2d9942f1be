import json

import pytest

from workbench.data.report import read_dataset
from workbench.data.split import split_indices
from workbench.data.store import SAMPLES
from workbench.errors import WorkbenchError
from workbench.settings import SAMPLES_DIR


def write(tmp_path, rows, name="mine.json"):
    path = tmp_path / name
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return path


GOOD = {"instruction": "Q", "output": "A"}


def test_every_bad_row_is_counted_and_the_first_are_shown_with_their_line(tmp_path):
    path = write(
        tmp_path, [GOOD, {"instruction": "Q"}, GOOD, 7, {"output": "A"}, {"instruction": 1}]
    )
    with pytest.raises(WorkbenchError) as error:
        read_dataset(path, "mine.json")
    lines = str(error.value).splitlines()
    assert lines[0].startswith("mine.json, row 2 (line 6): no answer")
    assert lines[1].startswith("mine.json, row 4 (line 13): a number where")
    assert lines[3] == "And 1 more of 6 rows."


def test_unknown_fields_and_repeats_are_noted_not_refused(tmp_path):
    dataset = read_dataset(write(tmp_path, [{**GOOD, "id": 1}, {**GOOD, "id": 2}]), "mine.json")
    assert "`id`" in dataset.notes[0]
    assert "2 rows" in dataset.notes[0]
    assert "1 rows repeat" in dataset.notes[1]


def test_an_upload_is_copied_hashed_and_found_again(services, tmp_path):
    path = write(tmp_path, [GOOD] * 3, "My Rows (1).json")
    info = services.datasets.add(path, "My Rows (1).json")
    path.unlink()
    assert info.row_count == 3
    assert info.id.startswith("my-rows-1-")
    assert services.datasets.info(info.id) == info
    assert len(services.datasets.load(info.id).conversations) == 3
    assert services.datasets.uploads() == [info]


def test_the_same_content_twice_is_one_dataset(services, tmp_path):
    ids = {services.datasets.add(write(tmp_path, [GOOD]), "mine.json").id for _ in range(2)}
    assert len(ids) == 1
    assert len(services.datasets.uploads()) == 1


def test_a_refused_file_leaves_nothing_and_what_was_there_stays(services, tmp_path):
    kept = services.datasets.add(write(tmp_path, [GOOD]), "mine.json")
    with pytest.raises(WorkbenchError):
        services.datasets.add(write(tmp_path, [{}], "bad.json"), "bad.json")
    assert services.datasets.uploads() == [kept]


@pytest.mark.parametrize(
    "bad_id", ["../../etc", "/etc/passwd", "a/b", "", "UPPER", ".hidden", "a" * 99]
)
def test_ids_are_never_paths(services, bad_id):
    with pytest.raises(WorkbenchError):
        services.datasets.load(bad_id)


def test_an_upload_above_the_limit_is_refused(services, tmp_path, monkeypatch):
    path = write(tmp_path, [GOOD])
    object.__setattr__(services.settings, "upload_limit_bytes", 10)
    with pytest.raises(WorkbenchError, match="the limit is"):
        services.datasets.add(path, "mine.json")


def test_a_folder_that_cannot_be_written_is_a_sentence(services, tmp_path):
    services.settings.home_dir.mkdir(parents=True)
    services.settings.datasets_dir.write_text("in the way")
    with pytest.raises(WorkbenchError, match="Free some space"):
        services.datasets.add(write(tmp_path, [GOOD]), "mine.json")


@pytest.mark.parametrize("count", [1, 2, 10, 200])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_a_split_is_complete_disjoint_and_repeatable(count, share):
    train, validation = split_indices(count, share, seed=3)
    assert sorted(train + validation) == list(range(count))
    assert train
    assert bool(validation) == (share > 0 and count > 1)
    assert (train, validation) == split_indices(count, share, seed=3)


@pytest.mark.parametrize("file", [file for file, _ in SAMPLES.values()])
def test_samples_are_clean_and_share_no_row_with_what_is_held_out(file):
    path = SAMPLES_DIR / file
    sample = read_dataset(path, file)
    held_out = read_dataset(path.with_name(f"{path.stem}-heldout.json"), file)
    assert sample.notes == []
    questions = {c["messages"][0]["content"] for c in sample.conversations}
    assert not questions & {c["messages"][0]["content"] for c in held_out.conversations}
