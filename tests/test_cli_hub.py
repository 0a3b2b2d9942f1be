"""``workbench hub`` as a process of its own, with HF_ENDPOINT set to a fake Hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.fake_hub import COMMIT, Hub
from workbench.settings import PROJECT_DIR

NAME = "someone/questions"
TRAIN = "data/train-00000-of-00002.jsonl"
ROWS = b'{"instruction": "Who are you?", "output": "A test."}\n' * 100


@pytest.fixture
def hub():
    hub = Hub()
    hub.datasets[NAME] = {"README.md": b"", "data/test.jsonl": b"{}\n", TRAIN: ROWS}
    hub.tags = ["license:mit"]
    with hub.serve():
        yield hub


@pytest.fixture
def workbench_hub(settings, hub, tmp_path):
    def run(*arguments, limit_mb="200"):
        environment = os.environ | {
            "HF_ENDPOINT": hub.endpoint,
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(PROJECT_DIR),
            "WORKBENCH_UPLOAD_LIMIT_MB": limit_mb,
        }
        code = "import sys; from workbench.cli import main; sys.exit(main())"
        return subprocess.run(
            [sys.executable, "-c", code, "hub", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_files_are_listed_with_their_sizes(workbench_hub, hub):
    hub.gated.add(NAME)
    result = workbench_hub(NAME)
    assert result.returncode == 0, result.stderr
    first, second, *rest = result.stdout.splitlines()
    assert first.split("  ") == [TRAIN, "train, part 1 of 2 (6 kB)"]
    assert second.startswith("data/test.jsonl")
    assert rest[0] == "Licence: mit."
    assert "gated" in rest[1]


def test_the_list_is_one_json_document(workbench_hub):
    document = json.loads(workbench_hub(NAME, "--json").stdout)
    assert (document["repository"], document["revision"]) == (NAME, COMMIT)
    assert (document["licence"], document["gated"]) == ("mit", False)
    assert document["files"][0] == {
        "path": TRAIN,
        "size_bytes": len(ROWS),
        "label": "train, part 1 of 2 (6 kB)",
    }


def test_a_file_is_downloaded_under_its_name_and_never_over_another(workbench_hub, hub, tmp_path):
    target = tmp_path / TRAIN.removeprefix("data/")
    result = workbench_hub(NAME, TRAIN)
    assert result.returncode == 0, result.stderr
    assert target.read_bytes() == ROWS
    assert target.name in result.stdout
    target.write_bytes(b"mine")
    result = workbench_hub(NAME, TRAIN)
    assert (result.returncode, target.read_bytes()) == (2, b"mine")
    assert "exists already" in result.stderr
    assert hub.requested == [TRAIN]
    assert not list(tmp_path.glob(".hub-*"))


def test_a_file_is_downloaded_to_another_name(workbench_hub, tmp_path):
    result = workbench_hub(NAME, TRAIN, "--out", "mine.jsonl", "--json")
    assert json.loads(result.stdout) == {
        "repository": NAME,
        "revision": COMMIT,
        "path": TRAIN,
        "size_bytes": len(ROWS),
        "out": "mine.jsonl",
    }
    assert result.stderr == ""
    assert (tmp_path / "mine.jsonl").read_bytes() == ROWS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((NAME, "nothing.json"), "has no readable file 'nothing.json'"),
        ((NAME, "--out", "x.json"), "--out needs a FILE"),
        ((NAME, TRAIN, "--out", "nowhere/x.json"), "There is no folder nowhere"),
        (("someone/nothing",), "There is no dataset someone/nothing"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(workbench_hub, arguments, words):
    result = workbench_hub(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_limit_is_that_of_uploads(workbench_hub, hub):
    hub.datasets[NAME][TRAIN] = ROWS * 200
    result = workbench_hub(NAME, TRAIN, limit_mb="1")
    assert result.returncode == 2
    assert "the limit is 1 MB" in result.stderr
    assert "WORKBENCH_UPLOAD_LIMIT_MB" in result.stderr
