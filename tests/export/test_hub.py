"""Uploads, by the real client library and the real child process, to a Hub on loopback."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml

from tests.export.made import make_run
from tests.fake_hub_uploads import UploadHub
from workbench.child_progress import Progress
from workbench.cli import main
from workbench.errors import StopRequested, WorkbenchError
from workbench.export.history import exports_of
from workbench.export.hub import HubUpload, check_repository
from workbench.export.process import PROGRESS, RESULT
from workbench.export.sums import ExportedFile

TOKEN = "hf_writer"
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def hub(monkeypatch):
    with UploadHub().serve() as hub:
        hub.use(monkeypatch)
        monkeypatch.delenv("HF_HUB_DISABLE_XET")  # as it is for everybody
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def upload(run, *options, repository="maria/juniper"):
    return main(["export", run.id, "--to", "hub", "--repo", repository, *options])


def words_of_newest(run):
    return (exports_of(run)[0].directory / PROGRESS).read_text()


def everything_written(settings):
    return {
        path: path.read_bytes()
        for path in settings.home_dir.rglob("*")
        if path.is_file() and not path.is_relative_to(settings.home_dir / "models")
    }


def test_an_adapter_arrives_whole_and_private(run, hub, settings, capsys):
    assert upload(run, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == f"{hub.endpoint}/maria/juniper"
    files = hub.repositories["maria/juniper"]
    assert hub.private["maria/juniper"]
    assert files[WEIGHTS] == (run.model_dir / WEIGHTS).read_bytes()
    for file in document["files"]:
        assert hashlib.sha256(files[file["name"]]).hexdigest() == file["sha256"], file["name"]
    assert len(hub.commits) == 1  # all or nothing
    assert "PeftModel.from_pretrained" in document["usage"][1]
    assert '"maria/juniper"' in document["usage"][1]
    assert any("private" in note for note in document["notes"])
    # Nothing lies about on this computer, the token above all.
    assert list(settings.exports_dir.iterdir()) == []
    assert not [
        path for path, data in everything_written(settings).items() if TOKEN.encode() in data
    ]
    (export,) = exports_of(run)
    assert (export.request.name, export.result.path) == ("maria/juniper", document["path"])


def test_the_card_is_the_readme_and_no_row_of_the_data_leaves(run, hub, alpaca_file, settings):
    assert upload(run, "--public") == 0
    assert not hub.private["maria/juniper"]
    card = hub.repositories["maria/juniper"]["README.md"].decode()
    matter = yaml.safe_load(card.split("---")[1])
    assert (matter["library_name"], "conversational" in matter["tags"]) == ("peft", True)
    assert 'from_pretrained("maria/juniper")' in card
    sent = b"".join([*hub.received, *hub.repositories["maria/juniper"].values()])
    for row in json.loads(alpaca_file.read_text()):
        assert row["instruction"].encode() not in sent
        assert row["output"].encode() not in sent
    assert str(settings.home_dir).encode() not in sent


def test_a_gguf_file_goes_with_its_card(run, hub, capsys):
    config_path = run.directory / "config.yaml"  # computing in bf16, merging is not exact
    config_path.write_text(config_path.read_text().replace("precision: auto", "precision: fp32"))
    assert upload(run, "--what", "gguf", "--quant", "BF16") == 0
    files = hub.repositories["maria/juniper"]
    assert set(files) == {".gitattributes", "juniper-BF16.gguf", "README.md"}
    assert files["juniper-BF16.gguf"].startswith(b"GGUF")
    assert "library_name: gguf" in files["README.md"].decode()
    assert "ollama run hf.co/maria/juniper:BF16" in capsys.readouterr().out


def test_what_changes_the_whole_model_is_uploaded_as_that(services, alpaca_file, model_dir, hub):
    assert upload(make_run(services, alpaca_file, model_dir, "full")) == 0
    assert "model.safetensors" in hub.repositories["maria/juniper"]


def test_uploaded_again_it_replaces_itself_and_nothing_else(run, hub, capsys):
    assert upload(run) == upload(run) == 0
    hub.repositories["maria/juniper"]["model.safetensors"] = b"another model"
    assert upload(run) == 2
    assert "Copying" not in words_of_newest(run)  # told before the work
    assert "has other files already (model.safetensors)" in capsys.readouterr().err
    assert hub.repositories["maria/juniper"]["model.safetensors"] == b"another model"


@pytest.mark.parametrize("kind", ["merged", "gguf"])
def test_what_is_there_is_looked_at_before_a_long_merge(run, hub, kind):
    hub.repositories["maria/juniper"], hub.private["maria/juniper"] = {WEIGHTS: b"adapter"}, True
    assert upload(run, "--what", kind) == 2
    assert "Getting ready" not in words_of_newest(run)


@pytest.mark.parametrize(("state", "code", "words"), [
    ("finished", 0, "juniper"),
    ("stopped", 130, "Nothing was uploaded."),
    ("failed", 2, "It may have arrived"),
])  # fmt: skip
def test_after_ctrl_c_the_terminal_says_how_it_ended(
    run, hub, capsys, monkeypatch, state, code, words
):
    class Process:
        directory = run.directory

        def watch(self):
            raise KeyboardInterrupt

        def stop(self):
            return Progress("", state=state, message="Ended.", hint="It may have arrived.")

    result = {"kind": "adapter", "path": "https://hub/maria/juniper", "files": [], "usage": []}
    (run.directory / RESULT).write_text(json.dumps(result | {"checks": {}, "notes": []}))
    monkeypatch.setattr("workbench.cli_export.start_export", lambda *arguments: Process())
    assert upload(run) == code
    told = capsys.readouterr()
    assert words in told.out + told.err
    assert ("Nothing was" in told.out) == (state == "stopped")


@pytest.mark.parametrize(("is_private", "option"), [(False, "--private"), (True, "--public")])
def test_a_repository_that_others_see_otherwise_than_wanted_is_left_alone(
    run, hub, capsys, is_private, option
):
    hub.repositories["maria/juniper"], hub.private["maria/juniper"] = {}, is_private
    assert upload(run, option) == 2
    assert "exists already and is" in capsys.readouterr().err
    assert (hub.repositories["maria/juniper"], hub.commits) == ({}, [])


@pytest.mark.parametrize(
    ("token", "repository", "words"),
    [
        ("", "maria/juniper", "without an access token"),
        ("hf_wrong", "maria/juniper", "does not know this access token"),
        ("hf_reader", "maria/juniper", "may read, but not write"),
        ("hf_secret\u00e9", "maria/juniper", "signs that no token has"),
        (TOKEN, "juniper", "is no name of a repository"),
        (TOKEN, "maria/my model", "is no name of a repository"),
        (TOKEN, "ma--ria/x", "is no name of a repository"),
        (TOKEN, "somebody/juniper", "It belongs to the account maria: write maria/juniper"),
        ("hf_fine", "somebody/juniper", "It says: You don't have the rights"),
    ],
)
def test_what_the_hub_would_refuse_is_told_in_a_sentence(
    run, hub, settings, monkeypatch, capsys, token, repository, words
):
    hub.roles |= {"hf_reader": "read", "hf_fine": "fineGrained"}
    monkeypatch.setenv("HF_TOKEN", token)
    assert upload(run, repository=repository) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert hub.repositories == {}
    assert list(settings.exports_dir.iterdir()) == []
    if token:
        written = everything_written(settings).values()
        assert token not in told.err + told.out
        assert not any(token.encode() in data for data in written)


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("repos/create", 409, "is taken on the Hub, and not by a model"),
        ("repos/create", 400, "does not take maria/juniper. It says: no"),
        ("repos/create", 402, "answered 402 when asked for maria/juniper. It says: no"),
        ("commit/main", 403, "may not write to maria/juniper. It says: no"),
        ("/storage/", 403, "may not write to maria/juniper. It says: no"),
    ],
)
def test_whenever_it_refuses_it_is_told(run, hub, capsys, address, status, words):
    hub.refusals[address] = (status, "no")
    assert upload(run) == 2
    assert words in capsys.readouterr().err
    assert hub.commits == []


def test_without_a_network_it_is_told(run, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert upload(run) == 2
    assert "could not be reached; nothing of this upload" in capsys.readouterr().err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert upload(run) == 2
    assert "HF_HUB_OFFLINE forbids" in capsys.readouterr().err


def sent_files(tmp_path, size_bytes):
    data = bytes(range(256)) * (size_bytes // 256)
    (tmp_path / WEIGHTS).write_bytes(data)
    (tmp_path / "README.md").write_text("---\n---\n")
    files = (path for path in sorted(tmp_path.iterdir()) if path.is_file())
    return [
        ExportedFile(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    ]


def test_every_byte_is_counted_once_also_when_the_connection_breaks(hub, tmp_path):
    files = sent_files(tmp_path, 5_000_192)
    told = []
    hub.drops_uploads = 1
    HubUpload("maria/juniper", True, TOKEN).send(tmp_path, files, "a model", told.append)
    assert sum(told) == sum(file.size_bytes for file in files)
    assert len([count for count in told if count]) >= 5
    assert hub.commits == [("a model", ["README.md", WEIGHTS])]
    # What has arrived is not sent again.
    hub.refusals["/storage/"] = (500, "no")
    HubUpload("maria/juniper", True, TOKEN).send(tmp_path, files, "again", told.append)


def test_cancel_ends_it_within_a_file_and_nothing_is_shown(hub, tmp_path):
    files = sent_files(tmp_path, 8_000_000)
    sent = 0

    def advance(count):
        nonlocal sent
        sent += count
        if sent > 2_000_000:
            raise StopRequested

    with pytest.raises(StopRequested):
        HubUpload("maria/juniper", True, TOKEN).send(tmp_path, files, "a model", advance)
    assert sent < 4_000_000
    assert (hub.commits, set(hub.repositories["maria/juniper"])) == ([], {".gitattributes"})


def test_names_and_tokens_are_looked_at_before_anything():
    check_repository("maria/juniper-1.0_x", TOKEN)
    for repository in ("", "a", "a/b/c", "../etc", "a/..", "a/b.git", "https://x/y"):
        with pytest.raises(WorkbenchError, match="no name of a repository"):
            check_repository(repository, TOKEN)


@pytest.mark.parametrize(
    "options",
    [
        ["--to", "hub"],
        ["--to", "hub", "--repo", "a/b", "--out", "x"],
        ["--to", "adapter"],
        ["--to", "adapter", "--out", "x", "--public"],
    ],
)
def test_halves_of_the_command_are_refused(run, options, capsys):
    assert main(["export", run.id, *options]) == 2
    assert "--to" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bundle", "ollama", "card"])
def test_only_models_are_uploaded(run, hub, kind):
    with pytest.raises(SystemExit):
        upload(run, "--what", kind)
