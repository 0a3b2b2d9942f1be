"""The command, with real child processes: what it writes, refuses, and leaves behind when it fails."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import peft
import pytest
from transformers import AutoModelForCausalLM

from tests.export.made import export, make_run
from tests.waiting import wait_until
from workbench.child_progress import ProgressWriter
from workbench.cli import main
from workbench.errors import StopRequested, WorkbenchError
from workbench.export import adapter
from workbench.export.__main__ import main as child_main
from workbench.export.history import exports_of
from workbench.export.job import Export
from workbench.export.process import PROGRESS, make_request, read_progress, start
from workbench.export.request import write_request
from workbench.runs.chats import Chat, keep_chat
from workbench.runs.checkpoints import mark_complete
from workbench.runs.events import StepEvent, read_events
from workbench.runs.votes import SAME, Vote, add_vote
from workbench.settings import PROJECT_DIR, ensure_dir

QUICK = ["max_steps=3", "batch_size=4", "max_length=256", "evaluate_after=0"]


def names(folder):
    return {path.name for path in folder.iterdir()}


def check_sums(folder, file="SHA256SUMS"):
    done = subprocess.run(["sha256sum", "-c", file], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr


def texts_of(path):
    """Every text in a folder or zip."""
    if path.is_dir():
        files = {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    else:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    return {name: data.decode() for name, data in files.items() if b"\0" not in data[:1000]}


def test_the_command_exports_and_says_how_to_use_it(run, tmp_path, capsys):
    out = ensure_dir(tmp_path / "out")
    for kind, name in (("merged", "merged"), ("gguf", "m.gguf"), ("adapter", "lora")):
        code = main(["export", run.id, "--to", kind, "--out", str(out / name), "--json"])
        document = json.loads(capsys.readouterr().out)
        assert code == 0
        assert (document["kind"], document["path"]) == (kind, str(out / name))
        assert 3 <= len(document["usage"]) <= 4  # the fourth is vLLM's
        assert document["size_bytes"] == sum(file["size_bytes"] for file in document["files"])
    assert names(out) == {"merged", "m.gguf", "m.gguf.sha256", "lora"}
    assert {"README.md", "SHA256SUMS", "model.safetensors", "tokenizer.json"} <= names(
        out / "merged"
    )
    check_sums(out / "merged")
    check_sums(out / "lora")
    check_sums(out, "m.gguf.sha256")
    assert main(["export", run.id, "--to", "adapter", "--out", str(out / "lora")]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "quant", "name"),
    [
        ("gguf", "Q8_0", "tuned-Q8_0.gguf"),
        ("bundle", "F16", "tuned-bundle.zip"),
        ("card", "F16", "tuned-card.md"),
    ],
)
def test_one_file_may_be_put_in_a_folder(run, tmp_path, capsys, kind, quant, name):
    out = tmp_path / "out"
    command = ["export", run.id, "--to", kind, "--quant", quant, "--out", str(out)]
    assert main(command) == 0  # the folder is new
    assert main(command) == 0  # and now it is there
    assert name in names(out)
    stem, ending = name.rsplit(".", 1)
    assert f"{stem}-2.{ending}" in names(out)


def test_a_folder_that_got_nothing_is_not_left(run, tmp_path, capsys):
    shutil.rmtree(run.model_dir)
    assert main(["export", run.id, "--to", "gguf", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_kind_of_another_version_is_left_out(run, services, tmp_path):
    directory = ensure_dir(run.directory / "exports" / "1")
    write_request(directory, make_request("stone", tmp_path / "x"))
    assert exports_of(run) == []


def test_progress_is_told_and_usage_printed(run, tmp_path, capsys):
    assert main(["export", "latest", "--to", "adapter", "--out", str(tmp_path / "a.zip")]) == 0
    told = capsys.readouterr()
    assert "Starting" in told.err
    assert "AutoTokenizer.from_pretrained" in told.out


def test_an_adapter_works_elsewhere(run, services, model_dir, tmp_path):
    folder = tmp_path / "lora"
    result = export(services, run, "adapter", folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == model_dir.name
    assert "optimizer.pt" not in names(folder)
    scope = {}
    exec("\n".join(result.usage), scope)  # what the terminal says, on this computer
    assert isinstance(scope["model"], peft.PeftModel)
    assert scope["tokenizer"].chat_template
    export(services, run, "adapter", tmp_path / "lora.zip")
    scope = {}
    unpacked = export(services, run, "adapter", tmp_path / "other.zip")
    exec("\n".join(unpacked.usage), scope)
    assert isinstance(scope["model"], peft.PeftModel)
    with zipfile.ZipFile(tmp_path / "lora.zip") as archive:
        for name in archive.namelist():
            if name != "README.md":  # which says how it is called
                assert archive.read(name) == (folder / name).read_bytes()
    for path in (folder, tmp_path / "lora.zip"):
        for name, text in texts_of(path).items():
            assert str(tmp_path) not in text, name
            assert str(model_dir.parent) not in text, name


def test_a_checkpoint_is_exported_without_what_training_needs(
    run, services, alpaca_file, model_dir, tmp_path
):
    directory = run.checkpoints_dir / "checkpoint-3"
    shutil.copytree(run.model_dir, directory)
    (directory / "optimizer.pt").write_bytes(b"x")
    mark_complete(directory)
    export(services, run, "adapter", tmp_path / "lora", checkpoint=3)
    assert "optimizer.pt" not in names(tmp_path / "lora")
    assert "complete.json" not in names(tmp_path / "lora")
    export(services, run, "merged", tmp_path / "merged", checkpoint=3)
    other = make_run(services, alpaca_file, model_dir, "pissa")
    shutil.copytree(directory, other.checkpoints_dir / "checkpoint-3")
    with pytest.raises(WorkbenchError, match="no model by itself"):
        export(services, other, "adapter", tmp_path / "pissa", checkpoint=3)


HOSTILE = '../../evil"; rm -rf ~ #\n---\nFROM <script>'


def test_a_hostile_name_changes_nothing(services, alpaca_file, model_dir, tmp_path):
    run = make_run(services, alpaca_file, model_dir, name=HOSTILE)
    out = ensure_dir(tmp_path / "out")
    for kind, name in (
        ("adapter", "a"), ("ollama", "o"), ("card", "c.md"), ("bundle", "b.zip"),
    ):  # fmt: skip
        assert main(["export", run.id, "--to", kind, "--out", str(out / name)]) == 0
    assert names(out) == {"a", "o", "c.md", "b.zip", "b.zip.sha256"}
    assert "evil" not in (out / "o" / "Modelfile").read_text()
    assert (out / "c.md").read_text().count("\n---\n") == 1
    with zipfile.ZipFile(out / "b.zip") as archive:
        assert all(not Path(name).is_absolute() and ".." not in name for name in archive.namelist())


def test_a_bundle_does_the_run_again(services, settings, model_dir, alpaca_file, tmp_path, capsys):
    arguments = ["--model", str(model_dir), "--set", *QUICK]
    assert main(["train", "--data", str(alpaca_file), "--name", "one", *arguments]) == 0
    out = tmp_path / "run.zip"
    assert main(["export", "latest", "--to", "bundle", "--with-data", "--out", str(out)]) == 0
    check_sums(tmp_path, "run.zip.sha256")
    run = services.runs.get("latest")
    for name, text in texts_of(out).items():
        for path in (settings.home_dir, model_dir, Path.home(), tmp_path):
            assert str(path) not in text, name
    with zipfile.ZipFile(out) as archive:
        assert {"config.yaml", "data.json", "environment.json", "events.jsonl"} <= set(
            archive.namelist()
        )
        archive.extractall(tmp_path / "again")
    printed = capsys.readouterr().out
    command = printed.strip().splitlines()[-1].split()
    assert command[:2] == ["workbench", "train"]
    os.chdir(tmp_path / "again")
    try:
        # A base model in a folder is the one thing that a bundle cannot name.
        assert main([*command[1:], "--model", str(model_dir)]) == 0
    finally:
        os.chdir(PROJECT_DIR)
    losses = [
        [event.loss for event in read_events(one.events_path)[0] if isinstance(event, StepEvent)]
        for one in (run, services.runs.get("latest"))
    ]
    assert services.runs.get("latest").id != run.id
    assert losses[0] == losses[1]


def test_a_bundle_without_data_has_its_hash(run, services, tmp_path):
    said = {"role": "user", "content": "a secret"}, {"role": "assistant", "content": "kept"}
    chat = keep_chat(run, Chat(run.id, ("tuned", "base"), (said, said), {}))
    add_vote(run, Vote.on(chat, SAME))
    export(services, run, "bundle", tmp_path / "b.zip")
    texts = texts_of(tmp_path / "b.zip")
    assert "a secret" not in "".join(texts.values())
    assert not any(name.startswith("data/") for name in texts)
    part = json.loads(texts["data.json"])["parts"][0]
    assert (part["sha256"], part["path"]) == (run.data.parts[0].sha256, "")
    Path(run.data.parts[0].path).unlink()
    with pytest.raises(WorkbenchError, match="not on this computer any more"):
        export(services, run, "bundle", tmp_path / "c.zip", with_data=True)


@pytest.mark.parametrize("kind", ["adapter", "card"])
def test_a_run_that_has_not_ended_is_refused(run, services, tmp_path, capsys, kind):
    command = [sys.executable, "-c", "import time; time.sleep(60)", str(run.directory)]
    with subprocess.Popen(command) as process:
        record = {"pid": process.pid, "create_time": time.time()}
        run.process_path.write_text(json.dumps(record))
        code = main(["export", run.id, "--to", kind, "--out", str(tmp_path / "a")])
        process.kill()
    assert code == 2
    assert "has not ended" in capsys.readouterr().err


def in_child_process(run, kind, out):
    """Run the child's own code here; return its exit code and its last word."""
    directory = ensure_dir(run.directory / "exports" / "test")
    path = write_request(directory, make_request(kind, out))
    return child_main(run.directory, path), read_progress(directory / PROGRESS)


@pytest.mark.parametrize("name", ["lora", "lora.zip"])
def test_a_disk_that_fills_up_leaves_nothing(run, tmp_path, monkeypatch, name):
    class Full:
        """Says that the disk is full in the middle of a file."""

        def __init__(self, file):
            self._file = file

        def read(self, count):
            if data := self._file.read(10):
                return data
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = adapter.Path.open

    class Opened:
        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return Full(self._file.__enter__())

        def __exit__(self, *details):
            return self._file.__exit__(*details)

    def failing(path, mode="r", *rest, **more):
        file = opened(path, mode, *rest, **more)
        return Opened(file) if path.name == "adapter_model.safetensors" and mode == "rb" else file

    monkeypatch.setattr(adapter.Path, "open", failing)
    out = ensure_dir(tmp_path / "out")
    code, last = in_child_process(run, "adapter", out / name)
    assert (code, last.state) == (1, "failed")
    assert last.message == "The disk is full; nothing was kept of the export."
    assert not names(out)


@pytest.mark.parametrize(("kind", "name"), [("adapter", "lora.zip"), ("bundle", "b.zip")])
def test_a_disk_that_fills_up_at_the_sums_leaves_nothing(run, tmp_path, monkeypatch, kind, name):
    written = Path.write_text

    def failing(path, text, *rest, **more):
        count = written(path, text, *rest, **more)
        if path.suffix == ".sha256":
            raise OSError(errno.ENOSPC, "No space left on device")
        return count

    monkeypatch.setattr(Path, "write_text", failing)
    out = ensure_dir(tmp_path / "out")
    code, last = in_child_process(run, kind, out / name)
    assert (code, last.message) == (1, "The disk is full; nothing was kept of the export.")
    assert not names(out)


@pytest.mark.parametrize(
    ("kind", "name", "last_file"),
    [
        ("merged", "merged", "README.md"),
        ("ollama", "ollama", "Modelfile"),
        ("ollama", "ollama", "SHA256SUMS"),
        ("adapter", "lora", "SHA256SUMS"),
    ],
)
def test_a_disk_that_fills_up_at_the_last_file_of_a_folder_leaves_nothing(
    run, tmp_path, monkeypatch, kind, name, last_file
):
    written = Path.write_text

    def failing(path, text, *rest, **more):
        if path.name == last_file:
            written(path, text[:3], *rest, **more)
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, text, *rest, **more)

    monkeypatch.setattr(Path, "write_text", failing)
    out = ensure_dir(tmp_path / "out")
    code, last = in_child_process(run, kind, out / name)
    assert (code, last.message) == (1, "The disk is full; nothing was kept of the export.")
    assert not names(out)


def test_a_disk_that_fills_up_in_a_bundle_leaves_nothing(run, tmp_path, monkeypatch):
    def failing(archive, name, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", failing)
    out = ensure_dir(tmp_path / "out")
    code, last = in_child_process(run, "bundle", out / "b.zip")
    assert (code, last.message) == (1, "The disk is full; nothing was kept of the export.")
    assert not names(out)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 100 kB, where this computer lets us have one."""
    folder = ensure_dir(tmp_path / "disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    ("kind", "name"), [("merged", "merged"), ("gguf", "m.gguf"), ("ollama", "ollama")]
)
def test_a_real_full_disk_is_told_in_a_sentence(run, services, small_disk, kind, name):
    process = start(run, make_request(kind, small_disk / name), services.settings)
    *_, last = process.watch()
    assert last.state == "failed"
    assert last.message == "The disk is full; nothing was kept of the export."
    assert not names(small_disk)


def test_a_disk_too_small_is_refused_before(run, small_disk, capsys):
    assert main(["export", run.id, "--to", "merged", "--out", str(small_disk / "m")]) == 2
    assert "the export needs about" in capsys.readouterr().err


def test_a_killed_process_leaves_nothing(run, services, tmp_path):
    out = ensure_dir(tmp_path / "out")
    process = start(run, make_request("merged", out / "merged"), services.settings)
    process.request.partial_path.mkdir()  # as if it had begun to write
    process.child.kill()
    *_, last = process.watch()
    assert last.state == "failed"
    assert "Most often memory or the disk ran out" in last.message
    assert not names(out)


def test_stop_ends_it_between_two_pieces(run, services, tmp_path):
    request = make_request("merged", tmp_path / "merged")
    asked = iter(range(100))
    job = Export(
        run, request, services.settings, ProgressWriter(run.directory / "p.jsonl"),
        lambda: next(asked) > 8,
    )  # fmt: skip
    with pytest.raises(StopRequested):
        job.work()
    assert not request.out_path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_cancels_and_leaves_nothing(run, settings, tmp_path):
    out = ensure_dir(tmp_path / "out")
    arguments = ["export", run.id, "--to", "gguf", "--out", str(out / "m.gguf")]
    code = f"import sys; from workbench.cli import main; sys.exit(main({arguments!r}))"
    environment = os.environ | {"WORKBENCH_HOME": str(settings.home_dir)}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        process.stderr.readline()  # it has begun
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"Nothing was kept" in told
    wait_until(lambda: not names(out))


def test_a_path_taken_meanwhile_stays_as_it_is(run, services, tmp_path, monkeypatch):
    out = tmp_path / "lora"
    measured = Export._measure

    def measure(self):
        out.mkdir()
        return measured(self)

    monkeypatch.setattr(Export, "_measure", measure)
    with pytest.raises(WorkbenchError, match="came to be meanwhile"):
        export(services, run, "adapter", out)
    assert not list(out.iterdir())


def test_a_merged_model_loads_without_the_workbench(run, services, tmp_path):
    export(services, run, "merged", tmp_path / "merged")
    moved = (tmp_path / "merged").rename(tmp_path / "elsewhere")
    assert AutoModelForCausalLM.from_pretrained(moved).config.model_type == "llama"
    for name, text in texts_of(moved).items():
        assert str(tmp_path) not in text, name
