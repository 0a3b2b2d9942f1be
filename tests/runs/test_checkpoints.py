import pytest

from workbench.runs.checkpoints import (
    MARK,
    complete_checkpoints,
    delete_incomplete,
    keep_only,
    mark_complete,
    newest_checkpoint,
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
    delete_incomplete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10"]


def test_the_newest_and_the_best_are_kept(tmp_path, make):
    for step in (10, 20, 30, 40):
        make(step)
    keep_only(tmp_path, 1, also=[20])
    assert steps(tmp_path) == [20, 40]
    keep_only(tmp_path, 5)
    assert steps(tmp_path) == [20, 40]
