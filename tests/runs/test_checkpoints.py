import json

import pytest

from workbench.runs.checkpoints import (
    MARK,
    complete_checkpoints,
    delete_unusable,
    keep_only,
    mark_complete,
    newest_checkpoint,
    newest_whole,
)


@pytest.fixture
def make(tmp_path):
    def checkpoint(step, *, complete=True):
        directory = tmp_path / f"checkpoint-{step}"
        (directory / "parts").mkdir(parents=True)
        (directory / "adapter_model.safetensors").write_bytes(bytes(100))
        (directory / "parts" / "x").write_bytes(bytes(10))
        if complete:
            mark_complete(directory)
        return directory

    return checkpoint


def steps(directory):
    return [checkpoint.step for checkpoint in complete_checkpoints(directory)]


def test_only_what_is_marked_counts_and_they_are_in_order(tmp_path, make):
    make(100)
    make(20)
    make(300, complete=False)
    (tmp_path / "checkpoint-last").mkdir()
    assert steps(tmp_path) == [20, 100]
    assert newest_checkpoint(tmp_path).step == 100
    assert newest_checkpoint(tmp_path / "gone") is None


@pytest.mark.parametrize("damage", ["shorter", "gone", "mark"])
def test_what_is_damaged_does_not_count(tmp_path, make, damage):
    make(10)
    directory = make(20)
    if damage == "shorter":
        (directory / "adapter_model.safetensors").write_bytes(bytes(99))
    elif damage == "gone":
        (directory / "parts" / "x").unlink()
    else:
        (directory / MARK).write_text('{"half')
    assert steps(tmp_path) == [10]
    delete_unusable(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10"]


def change_a_byte(path):
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


def test_a_changed_byte_is_found_by_reading_and_only_then(tmp_path, make):
    for step in (10, 20, 30):
        make(step)
    change_a_byte(tmp_path / "checkpoint-30" / "adapter_model.safetensors")
    (tmp_path / "checkpoint-20" / "parts" / "x").unlink()
    assert steps(tmp_path) == [10, 30]  # a list looks at sizes
    found, damaged = newest_whole(tmp_path)
    assert (found.step, [one.step for one in damaged]) == (10, [30, 20])
    delete_unusable(tmp_path, damaged)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]
    change_a_byte(tmp_path / "checkpoint-10" / "parts" / "x")
    found, damaged = newest_whole(tmp_path)
    assert (found, [one.step for one in damaged]) == (None, [10])


def test_half_written_ones_are_not_called_damaged(tmp_path, make):
    make(10)
    make(20, complete=False)
    assert newest_whole(tmp_path)[1] == []
    assert newest_whole(tmp_path / "gone") == (None, [])


def test_a_checkpoint_from_before_there_were_checksums_still_counts(tmp_path, make):
    directory = make(10)
    sizes = {"adapter_model.safetensors": 100, "parts/x": 10}
    (directory / MARK).write_text(json.dumps(sizes))
    assert newest_whole(tmp_path)[0].step == newest_checkpoint(tmp_path).step == 10
    (directory / "parts" / "x").write_bytes(bytes(9))
    assert newest_whole(tmp_path)[0] is newest_checkpoint(tmp_path) is None


def test_the_newest_and_the_best_are_kept(tmp_path, make):
    for step in (10, 20, 30, 40):
        make(step)
    keep_only(tmp_path, 1, also=[20])
    assert steps(tmp_path) == [20, 40]
    keep_only(tmp_path, 5)
    assert steps(tmp_path) == [20, 40]
