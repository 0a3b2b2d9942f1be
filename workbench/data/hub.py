"""Data files of a dataset on the Hugging Face Hub: listed and downloaded by name, read by our own readers.

No code from the repository is run, and no name from it becomes a path here.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from workbench.downloads import FetchProgress, Report, check_free_space, watched
from workbench.errors import WorkbenchError
from workbench.hub import NAME_HINTS, explained, is_repository_name
from workbench.words import describe_bytes

READABLE = ".json, .jsonl, .csv, .tsv, .parquet or .xlsx, also packed as .gz"
_READABLE_SUFFIX = re.compile(r"\.(jsonl?|csv|tsv|parquet|xlsx)(\.gz)?$", re.IGNORECASE)
# Files about the data, by the last part of their path.
_METADATA = re.compile(
    r"(readme|licen[cs]e|citation)\b.*|dataset_(infos?|dict)\.json|state\.json|.*croissant.*\.json",
    re.IGNORECASE,
)
_TRAIN = re.compile(r"(?<![a-z])train(ing)?(?![a-z])", re.IGNORECASE)
# As the Hub's own tools write a split in parts: data/train-00000-of-00003-0123456789abcdef
_PART = re.compile(r"(.+)[-_.](\d{3,})-of-(\d{3,})(-[0-9a-f]+)?")
SHOWN_OTHER_FILES = 5


@dataclass(frozen=True)
class HubFile:
    """One file of a dataset.

    Attributes:
        path: Its path in the repository; never a path on this disk.
        size_bytes: Its size.
    """

    path: str
    size_bytes: int

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def label(self) -> str:
        """Say what it is: ``train, part 1 of 3 (120 MB)``."""
        return f"{_describe_part(self.path)} ({describe_bytes(self.size_bytes)})"


@dataclass(frozen=True)
class HubListing:
    """The readable files of a dataset.

    Attributes:
        repository: ``owner/name``, or ``name`` alone.
        revision: The commit that was listed; downloads are of this one.
        files: Those of a train split first, then by path; at least one.
        licence: As its page says, for example ``mit``; empty when it says nothing.
        gated: The owner wants the licence accepted before a download.
    """

    repository: str
    revision: str
    files: tuple[HubFile, ...]
    licence: str
    gated: bool

    def file(self, path: str) -> HubFile:
        """Return one of the files.

        Raises:
            WorkbenchError: The path is none of theirs.
        """
        for file in self.files:
            if file.path == path:
                return file
        raise WorkbenchError(
            f"{self.repository} has no readable file {path!r}.",
            f"Choose one of its {len(self.files):,}, for example {self.files[0].path}.",
        )


def list_data_files(repository: str) -> HubListing:
    """Ask the Hub which files of a dataset we can read.

    Args:
        repository: ``owner/name``, or ``name`` alone as in ``squad``.

    Raises:
        WorkbenchError: No such dataset, nothing readable in it, or no network.
    """
    from huggingface_hub import HfApi

    repository = repository.strip()
    if not is_repository_name(repository, "dataset"):
        raise WorkbenchError(
            f"{repository!r} is not the name of a dataset on the Hugging Face Hub.",
            f"Write {NAME_HINTS['dataset']}: what follows huggingface.co/datasets/ in its address.",
        )
    with explained(repository, "dataset"):
        info = HfApi().dataset_info(repository, files_metadata=True, timeout=20)
    found = [HubFile(file.rfilename, file.size or 0) for file in info.siblings or []]
    files = readable_files(found)
    if not files:
        raise _nothing_readable(repository, found)
    prefix = "license:"
    tags = [tag.removeprefix(prefix) for tag in info.tags or [] if tag.startswith(prefix)]
    return HubListing(
        repository, info.sha or "main", files, ", ".join(tags), gated=bool(info.gated)
    )


def download_file(
    listing: HubListing, path: str, directory: Path, limit_bytes: int, report: Report
) -> Path:
    """Download one file; what is there afterwards is complete.

    Args:
        listing: From ``list_data_files``.
        path: The path of one of its files.
        directory: An existing folder to put it in.
        limit_bytes: A larger file is refused before the download.
        report: Called at the start, about once a second, and at the end.

    Returns:
        The file in ``directory``, under a name made here that keeps the ending.

    Raises:
        WorkbenchError: Not a file of the listing, too large, gated, no room, or no network.
    """
    file = listing.file(path)
    _check_size(file, directory, limit_bytes)
    report(FetchProgress("downloading", 0, file.size_bytes))
    try:
        with tempfile.TemporaryDirectory(prefix=".hub-", dir=directory) as partial_dir:
            fetch = partial(_fetch, listing, file, Path(partial_dir))
            fetched_path = watched(fetch, Path(partial_dir), file.size_bytes, report)
            target_path = directory / _made_name(listing, file)
            fetched_path.replace(target_path)
    except OSError as error:
        raise WorkbenchError(
            f"{file.name} could not be stored: {error.strerror or error}.",
            "Free some space and try again.",
        ) from error
    report(FetchProgress("done", file.size_bytes, file.size_bytes))
    return target_path


def readable_files(files: list[HubFile]) -> tuple[HubFile, ...]:
    """Keep what holds rows in a format we read; a train split's files first, then by path."""
    kept = [
        file
        for file in files
        if _READABLE_SUFFIX.search(file.path)
        and not _METADATA.fullmatch(file.name)
        and _is_plain(file.path)
    ]
    return tuple(sorted(kept, key=lambda file: (not _TRAIN.search(file.path), file.path)))


def _is_plain(path: str) -> bool:
    """Say whether a path stays below where it is put, on every system, and hides nothing."""
    is_below = all(part and not part.startswith(".") for part in path.split("/"))
    return is_below and path.isprintable() and not set(path) & {"\\", ":"}


def _nothing_readable(repository: str, files: list[HubFile]) -> WorkbenchError:
    others = sorted(
        file.path
        for file in files
        if not file.name.startswith(".") and not _METADATA.fullmatch(file.name)
    )
    more = len(others) - SHOWN_OTHER_FILES
    shown = ", ".join(others[:SHOWN_OTHER_FILES]) + (f" and {more:,} more" if more > 0 else "")
    return WorkbenchError(
        f"{repository} has only: {shown}." if others else f"{repository} has no data files.",
        f"Choose a dataset with files that end in {READABLE}.",
    )


def _check_size(file: HubFile, directory: Path, limit_bytes: int) -> None:
    if file.size_bytes > limit_bytes:
        raise WorkbenchError(
            f"{file.name} has {describe_bytes(file.size_bytes)}; the limit is "
            f"{describe_bytes(limit_bytes)}.",
            "Choose a smaller file, or raise WORKBENCH_UPLOAD_LIMIT_MB.",
        )
    hint = "Free some space or choose a smaller file."
    check_free_space(file.name, file.size_bytes, directory, hint)


def _fetch(listing: HubListing, file: HubFile, partial_dir: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()  # it would draw into the terminal beside ours
    with explained(listing.repository, "dataset"):
        fetched = hf_hub_download(
            listing.repository,
            file.path,
            repo_type="dataset",
            revision=listing.revision,
            local_dir=partial_dir,
        )
    return Path(fetched)


def _made_name(listing: HubListing, file: HubFile) -> str:
    """Make a file name from letters, digits and a hash of where the file comes from."""
    name = file.name.lower()
    match = _READABLE_SUFFIX.search(name)
    assert match, "readable_files keeps no other"
    stem = re.sub(r"[^a-z0-9]+", "-", name[: match.start()]).strip("-")[:60] or "data"
    origin = f"{listing.repository}@{listing.revision}/{file.path}"
    return f"{stem}-{hashlib.sha256(origin.encode()).hexdigest()[:10]}{match[0]}"


def _describe_part(path: str) -> str:
    match = _PART.fullmatch(_READABLE_SUFFIX.sub("", path))
    if not match or int(match[2]) >= int(match[3]):  # not counted from 0: the name says it better
        return path
    split = match[1].removeprefix("data/")
    number, count = int(match[2]) + 1, int(match[3])
    return f"{split}, part {number:,} of {count:,}" if count > 1 else split
