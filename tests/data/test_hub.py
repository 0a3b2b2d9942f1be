"""Datasets by name, from a fake Hub; the download is that of ``huggingface_hub``."""

from __future__ import annotations

import pytest

from tests.fake_hub import COMMIT, Hub
from workbench.data.hub import (
    HubFile,
    HubListing,
    download_file,
    list_data_files,
    readable_files,
)
from workbench.errors import WorkbenchError
from workbench.hub import is_repository_name

NAME = "someone/questions"
ROWS = b'{"instruction": "Who are you?", "output": "A test."}\n' * 4_000
PLENTY_BYTES = 10**9


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    hub.datasets[NAME] = {
        "README.md": b"# Questions",
        ".gitattributes": b"",
        "dataset_infos.json": b"{}",
        "data/test.jsonl": b"{}\n",
        "data/train.jsonl": ROWS,
    }
    with hub.serve():
        use_hub(monkeypatch, hub.endpoint)
        yield hub


def use_hub(monkeypatch, endpoint):
    """What HF_ENDPOINT does; ``huggingface_hub`` reads it once, when it is imported."""
    from huggingface_hub import close_session, constants

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()


def download(listing, path, directory, limit_bytes=PLENTY_BYTES):
    seen = []
    return download_file(listing, path, directory, limit_bytes, seen.append), seen


def left_in(directory):
    return list(directory.rglob("*"))


def test_a_listing_has_the_files_we_read_and_says_where_they_are_from(hub):
    hub.tags = ["size_categories:1K<n<10K", "license:mit"]
    listing = list_data_files(f" {NAME} ")
    assert [file.path for file in listing.files] == ["data/train.jsonl", "data/test.jsonl"]
    assert listing.files[0].size_bytes == len(ROWS)
    assert (listing.repository, listing.revision) == (NAME, COMMIT)
    assert (listing.licence, listing.gated) == ("mit", False)
    assert hub.requested == []


def test_a_file_arrives_whole_with_its_progress_told(hub, tmp_path):
    path, seen = download(list_data_files(NAME), "data/train.jsonl", tmp_path)
    assert path.read_bytes() == ROWS
    assert left_in(tmp_path) == [path]
    assert path.suffix == ".jsonl"
    assert [(moment.state, moment.done_bytes) for moment in (seen[0], seen[-1])] == [
        ("downloading", 0),
        ("done", len(ROWS)),
    ]
    assert {moment.total_bytes for moment in seen} == {len(ROWS)}
    assert hub.requested == ["data/train.jsonl"]


def test_a_dataset_may_have_no_owner(hub, tmp_path):
    hub.datasets["squad"] = {"train.csv": b"instruction,output\nQ,A\n"}
    path, _ = download(list_data_files("squad"), "train.csv", tmp_path)
    assert path.read_bytes() == b"instruction,output\nQ,A\n"


def test_a_dropped_connection_is_taken_up_where_it_broke(hub, tmp_path):
    from huggingface_hub.constants import DOWNLOAD_CHUNK_SIZE

    many_rows = ROWS * 60  # huggingface_hub keeps whole chunks of 10 MB
    hub.datasets[NAME]["data/train.jsonl"] = many_rows
    hub.drop_after_bytes = DOWNLOAD_CHUNK_SIZE + 1_000
    path, _ = download(list_data_files(NAME), "data/train.jsonl", tmp_path)
    assert path.read_bytes() == many_rows
    assert hub.requested == ["data/train.jsonl"] * 2
    assert hub.resumed_at_bytes == [DOWNLOAD_CHUNK_SIZE]


def test_files_of_the_same_name_in_two_folders_are_two_files(hub, tmp_path):
    hub.datasets[NAME] = {"en/train.json": b"[1]", "de/train.json": b"[2]"}
    listing = list_data_files(NAME)
    paths = [download(listing, file.path, tmp_path)[0] for file in listing.files]
    assert [path.read_bytes() for path in paths] == [b"[2]", b"[1]"]


@pytest.mark.parametrize(
    "name", ["", "a/b/c", "../x", "a/..", "a--b/c", "https://x.org/a", "a/b.git"]
)
def test_what_is_no_name_is_refused_without_asking_the_hub(name):
    with pytest.raises(WorkbenchError, match="is not the name of a dataset"):
        list_data_files(name)


def test_a_model_needs_its_owner_and_a_dataset_does_not():
    assert is_repository_name("squad", "dataset")
    assert not is_repository_name("squad", "model")
    assert is_repository_name("a-b/c_d.e-1", "model")


def test_a_name_that_does_not_exist_is_a_sentence(hub):
    with pytest.raises(WorkbenchError, match="no dataset someone/nothing on the Hugging Face Hub"):
        list_data_files("someone/nothing")


def test_a_gated_dataset_is_listed_and_its_download_says_what_to_do(hub, tmp_path):
    hub.gated.add(NAME)
    listing = list_data_files(NAME)
    assert listing.gated
    with pytest.raises(WorkbenchError, match="is gated") as failure:
        download(listing, "data/train.jsonl", tmp_path)
    assert f"https://huggingface.co/datasets/{NAME}, accept" in failure.value.hint
    assert left_in(tmp_path) == []


def test_a_wrong_token_is_not_called_a_broken_network(hub):
    hub.refuses_tokens = True
    with pytest.raises(WorkbenchError, match="refused your access token") as failure:
        list_data_files(NAME)
    assert "HF_TOKEN" in failure.value.hint


def test_no_network_is_a_sentence(monkeypatch):
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(WorkbenchError, match="could not be downloaded") as failure:
        list_data_files(NAME)
    assert "Check the network connection" in failure.value.hint


def test_offline_mode_is_named(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WorkbenchError, match="HF_HUB_OFFLINE forbids"):
        list_data_files(NAME)


def test_nothing_readable_says_what_is_there(hub):
    hub.datasets[NAME] = {"README.md": b"", "b.zip": b"", "a.arrow": b"", "state.json": b""}
    with pytest.raises(WorkbenchError, match=r"has only: a\.arrow, b\.zip\."):
        list_data_files(NAME)
    hub.datasets[NAME] = {f"{number}.png": b"" for number in range(8)}
    with pytest.raises(WorkbenchError, match=r"4\.png and 3 more\."):
        list_data_files(NAME)
    hub.datasets[NAME] = {"README.md": b""}
    with pytest.raises(WorkbenchError, match="has no data files"):
        list_data_files(NAME)


def test_a_file_over_the_limit_is_refused_before_the_download(hub, tmp_path):
    listing = list_data_files(NAME)
    with pytest.raises(WorkbenchError, match=r"train\.jsonl has 212 kB; the limit is 100 kB"):
        download(listing, "data/train.jsonl", tmp_path, 100_000)
    assert hub.requested == []


def test_a_file_larger_than_the_disk_is_refused_before_the_download(hub, tmp_path):
    huge = HubFile("train.parquet", 10**18)
    listing = HubListing(NAME, COMMIT, (huge,), "", gated=False)
    with pytest.raises(WorkbenchError, match=r"needs 1,000,000,000\.0 GB and the disk has"):
        download(listing, huge.path, tmp_path, 10**19)
    assert hub.requested == []


@pytest.mark.parametrize(
    "path", ["README.md", "data/nothing.jsonl", "../train.jsonl", "/etc/passwd"]
)
def test_only_what_was_listed_is_downloaded(hub, tmp_path, path):
    with pytest.raises(WorkbenchError, match="has no readable file"):
        download(list_data_files(NAME), path, tmp_path)
    assert hub.requested == []


def test_what_the_disk_refuses_is_told_as_such(hub, tmp_path):
    listing = list_data_files(NAME)
    path, _ = download(listing, "data/train.jsonl", tmp_path)
    path.unlink()
    path.mkdir()  # stands in the way
    with pytest.raises(WorkbenchError, match=r"train\.jsonl could not be stored"):
        download(listing, "data/train.jsonl", tmp_path)
    assert left_in(tmp_path) == [path]


NASTY = [
    "../x.json",
    "/x.json",
    "a/../../x.json",
    "a\\..\\x.json",
    "C:x.json",
    ".x.json",
    "a\n.json",
]


def test_nasty_names_are_not_listed():
    assert readable_files([HubFile(path, 1) for path in NASTY]) == ()


@pytest.mark.parametrize("path", NASTY)
def test_nasty_names_in_a_listing_never_leave_the_directory(hub, tmp_path, path):
    """Should one get past the listing, it ends in an error or in a name of ours."""
    directory = tmp_path / "here"
    directory.mkdir()
    hub.datasets[NAME][path] = b"[]"
    listing = HubListing(NAME, COMMIT, (HubFile(path, 2),), "", gated=False)
    try:
        arrived, _ = download(listing, path, directory)
    except (WorkbenchError, ValueError):
        arrived = None
    assert left_in(tmp_path) == [directory] + ([arrived] if arrived else [])
    assert arrived is None or arrived.name.startswith(("x-", "a-"))


def test_every_format_we_read_is_listed_and_what_describes_the_data_is_not():
    ours = ["a.JSON", "b.jsonl", "c.csv", "d.tsv", "e.parquet", "f.xlsx", "g.jsonl.gz"]
    others = [
        "README.json",
        "croissant.json",
        "x/dataset_info.json",
        "a.arrow",
        "a.json.zip",
        "LICENSE",
    ]
    files = readable_files([HubFile(path, 1) for path in others + ours])
    assert [file.path for file in files] == ours


def test_the_train_split_comes_first():
    paths = [
        "a/test.json",
        "constraints.json",
        "my_train_v2.csv",
        "train-00001-of-00002.json",
        "b/train/x.csv",
    ]
    files = readable_files([HubFile(path, 1) for path in paths])
    assert [file.path for file in files] == [
        "b/train/x.csv",
        "my_train_v2.csv",
        "train-00001-of-00002.json",
        "a/test.json",
        "constraints.json",
    ]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("data/train-00000-of-00003.parquet", "train, part 1 of 3 (120 MB)"),
        ("data/train-00002-of-00003-0123456789abcdef.parquet", "train, part 3 of 3 (120 MB)"),
        ("main/test-00000-of-00001.parquet", "main/test (120 MB)"),
        ("train_00001-of-00010.jsonl.gz", "train, part 2 of 10 (120 MB)"),
        ("part-00003-of-00003.csv", "part-00003-of-00003.csv (120 MB)"),
        ("alpaca.json", "alpaca.json (120 MB)"),
    ],
)
def test_a_part_of_a_split_is_told_in_words(path, label):
    assert HubFile(path, 120_000_000).label == label


def test_a_small_file_is_not_0_mb():
    assert HubFile("a.json", 1_200).label == "a.json (2 kB)"
