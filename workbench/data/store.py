"""Datasets a person may train on: the samples in ``data/`` and what they added.

::

    datasets/<id>/original              the file as it was brought, never opened by its name
                  conversations.jsonl   its usable rows
                  report.json           what the check found
                  info.json             name, hashes, counts; written last

A file is kept once under an id made here, from its content and how it is read, and never changes; a
repaired one is another dataset. The original name is text, never a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock

from workbench.data.check import check_file
from workbench.data.conversations import ConversationWriter, StoredRow, read_stored_rows
from workbench.data.formats import Mapping
from workbench.data.report import Report, report_from_json
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.settings import SAMPLES_DIR, Settings, ensure_dir

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
NAME_CHARACTERS = 120
DOWNLOAD_LIMIT_BYTES = 20_000_000  # a browser is given a copy

# Id, file and what it teaches; the first one is what a newcomer starts with.
SAMPLES = {
    "sample-identity": ("identity.json", "a new name and maker"),
    "sample-reviews": ("reviews.json", "sort product reviews"),
    "sample-bookings": ("bookings.json", "bookings to JSON"),
}
# What keeps general skills, and what checks that; neither is offered as something to learn.
GENERAL, GENERAL_CHECK = "sample-general", "sample-general-heldout"
SHIPPED = {
    **{dataset_id: file for dataset_id, (file, _) in SAMPLES.items()},
    GENERAL: "general.json",
    GENERAL_CHECK: "general-heldout.json",
}


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset without reading it.

    Attributes:
        id: ``sample-…``, or slug and hash.
        name: What the person calls it; at first the file's name.
        file_name: The file's name when it came.
        file_sha256: Of the original, hexadecimal.
        sha256: Of ``conversations.jsonl``, which is what a model learns from.
        row_count: Usable rows.
        mean_characters: Mean length of a usable row, all messages together.
        is_usable: No problem stops training.
        created: Seconds since the epoch.
    """

    id: str
    name: str
    file_name: str
    file_sha256: str
    sha256: str
    row_count: int
    mean_characters: float
    is_usable: bool
    created: float


class DatasetStore:
    """The datasets of one workspace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def add(self, path: Path, name: str, mapping: Mapping | None = None) -> DatasetInfo:
        """Check a file and keep it with its report, also when something in it stops training.

        The same content read in the same way is kept once.

        Raises:
            WorkbenchError: The file is too large or not there, no row of it can be read, the mapping does
                not fit, or there is no room for the copy.
        """
        check_size(path, name, self._settings.upload_limit_bytes)
        dataset_id = dataset_id_of(path, name, mapping)
        with self._lock():
            if not self._info_path(dataset_id).exists():
                self._import(path, name, dataset_id, mapping)
        return self.info(dataset_id)

    def info(self, dataset_id: str) -> DatasetInfo:
        """Return what is known of one dataset.

        Raises:
            WorkbenchError: There is no such dataset.
        """
        if dataset_id in SHIPPED:
            self._refresh_sample(dataset_id)
        path = self._info_path(dataset_id)
        if not path.exists():
            raise WorkbenchError(
                f"There is no dataset {dataset_id!r} here any more.",
                "Upload the file again in the Data tab.",
            )
        return _read_info(path)

    def has(self, dataset_id: str) -> bool:
        """Say whether a text is the id of a dataset that was added; samples are there always."""
        return bool(_ID.fullmatch(dataset_id)) and self._info_path(dataset_id).exists()

    def usable(self, dataset_id: str) -> DatasetInfo:
        """Return what is known of a dataset that can be trained on.

        Raises:
            WorkbenchError: A problem in it stops training; says which and what to do.
        """
        info, report = self.info(dataset_id), self.report(dataset_id)
        if not report.is_usable:
            raise WorkbenchError(
                first_error(report),
                "The Data tab helps to mend it, and so do `workbench check` and `workbench fix`.",
            )
        return info

    def uploads(self) -> list[DatasetInfo]:
        """Return what the person added, the newest first."""
        root = self._settings.datasets_dir
        found = [path for path in root.glob("*/info.json") if path.parent.name not in SHIPPED]
        infos = [_read_info(path) for path in found if (path.parent / "report.json").exists()]
        return sorted(infos, key=lambda info: info.created, reverse=True)

    def report(self, dataset_id: str) -> Report:
        """Return what the check found, with the name the dataset has now."""
        info = self.info(dataset_id)
        text = (self._directory(dataset_id) / "report.json").read_text(encoding="utf-8")
        return replace(report_from_json(json.loads(text)), name=info.name)

    def path(self, dataset_id: str) -> Path:
        """Return the file with the conversations of one dataset."""
        return self._directory(dataset_id) / "conversations.jsonl"

    def original_path(self, dataset_id: str) -> Path:
        """Return the file as it was brought."""
        return self._directory(dataset_id) / "original"

    def download_path(self, dataset_id: str) -> Path | None:
        """Return the original under its own name, to offer to a browser; ``None`` when it is too large.

        It is a copy in the workspace's temporary folder; nothing of the name is a path.
        """
        info, original = self.info(dataset_id), self.original_path(dataset_id)
        if original.stat().st_size > DOWNLOAD_LIMIT_BYTES:
            return None
        name = re.sub(r"[^\w.() -]", "_", info.file_name).lstrip(". ")[-80:] or "dataset"
        link = ensure_dir(self._downloads_dir(dataset_id)) / name
        if not link.exists():
            shutil.copyfile(original, link)
        return link

    def rows(self, dataset_id: str, first: int = 0, count: int | None = None) -> list[StoredRow]:
        """Return some usable rows, from position ``first`` (from 0) on.

        Raises:
            WorkbenchError: There is no such dataset.
        """
        self.info(dataset_id)
        return read_stored_rows(self.path(dataset_id), first, count)

    def rename(self, dataset_id: str, name: str) -> DatasetInfo:
        """Give a dataset another name; runs that used it keep the old one.

        Raises:
            WorkbenchError: It is a sample, or the name is empty.
        """
        info, shown = self.info(dataset_id), name.strip()[:NAME_CHARACTERS]
        if dataset_id in SHIPPED or not shown:
            raise WorkbenchError(
                "A sample keeps its name." if dataset_id in SHIPPED else "Type the new name first."
            )
        renamed = replace(info, name=shown)
        _write_info(self._directory(dataset_id), renamed)
        return renamed

    def delete(self, dataset_id: str) -> None:
        """Remove a dataset; the caller has made sure that no run needs it.

        Raises:
            WorkbenchError: It is a sample, or not there.
        """
        self.info(dataset_id)
        if dataset_id in SHIPPED:
            raise WorkbenchError("A sample cannot be deleted.")
        directory = self._directory(dataset_id)
        (directory / "info.json").unlink()  # from here on it is gone, whatever happens
        shutil.rmtree(self._downloads_dir(dataset_id), ignore_errors=True)
        shutil.rmtree(directory)

    def _refresh_sample(self, dataset_id: str) -> None:
        """Import a sample when it is not here, or was changed in the project since."""
        source = SAMPLES_DIR / SHIPPED[dataset_id]
        info_path = self._info_path(dataset_id)

        def is_current() -> bool:
            return info_path.exists() and _read_info(info_path).file_sha256 == _sha256(source)

        if is_current():
            return
        with self._lock():  # several parts of a page that opens ask at once
            if not is_current():
                info_path.unlink(missing_ok=True)
                self._import(source, source.name, dataset_id, None)

    def _import(self, path: Path, name: str, dataset_id: str, mapping: Mapping | None) -> None:
        directory = self._directory(dataset_id)
        # Left by a check that was killed: nobody else is at work, for we have the lock.
        for left in directory.parent.glob(".*.part"):
            shutil.rmtree(left, ignore_errors=True)
        partial_dir = directory.with_name(f".{dataset_id}.{time.time_ns()}.part")
        try:
            ensure_dir(partial_dir)
            shutil.copyfile(path, partial_dir / "original")
            conversations_path = partial_dir / "conversations.jsonl"
            with conversations_path.open("w", encoding="utf-8", newline="\n") as file:
                report = check_file(
                    partial_dir / "original", name, mapping, ConversationWriter(file).add
                )
            if not report.fields:
                raise WorkbenchError(first_error(report))
            write_text_atomically(partial_dir / "report.json", json.dumps(report.as_json()))
            _write_info(partial_dir, _describe(dataset_id, report, partial_dir))
            shutil.rmtree(directory, ignore_errors=True)
            partial_dir.rename(directory)
        except OSError as error:
            raise WorkbenchError(
                f"Cannot keep a copy of {name}: {error.strerror or error}.",
                f"Free some space in {self._settings.home_dir} and try again.",
            ) from error
        finally:
            shutil.rmtree(partial_dir, ignore_errors=True)

    def _downloads_dir(self, dataset_id: str) -> Path:
        return self._settings.temporary_dir / "downloads" / dataset_id

    def _lock(self) -> FileLock:
        """Return the lock under which datasets come to be; other processes may share the workspace."""
        return FileLock(ensure_dir(self._settings.datasets_dir) / ".lock")

    def _info_path(self, dataset_id: str) -> Path:
        return self._directory(dataset_id) / "info.json"

    def _directory(self, dataset_id: str) -> Path:
        if not _ID.fullmatch(dataset_id):
            raise WorkbenchError(f"{dataset_id!r} is not the id of a dataset.")
        return self._settings.datasets_dir / dataset_id


def dataset_id_of(path: Path, name: str, mapping: Mapping | None = None) -> str:
    """Return the id under which a file is kept, or would be: its name, and a hash of content and reading."""
    reading = _sha256(path) + json.dumps(asdict(mapping) if mapping else None)
    return f"{_slug(name)}-{hashlib.sha256(reading.encode()).hexdigest()[:10]}"


def check_size(path: Path, name: str, limit_bytes: int) -> None:
    """Refuse a file that is not there or too large.

    Raises:
        WorkbenchError: So.
    """
    if not path.is_file():
        raise WorkbenchError(f"There is no file {name}.", "Check the name and the folder.")
    if path.stat().st_size > limit_bytes:
        raise WorkbenchError(
            f"{name} has {path.stat().st_size / 1e6:,.0f} MB; the limit is {limit_bytes / 1e6:,.0f} MB.",
            "Use fewer rows, or raise WORKBENCH_UPLOAD_LIMIT_MB.",
        )


def first_error(report: Report) -> str:
    """Say what stops training, with the first place and how much more there is."""
    if not report.errors:
        return f"{report.name} has no row to learn from."
    problem = report.errors[0]
    place = ""
    if problem.first:
        first = problem.first[0]
        where = f"Row {first.row:,} (line {first.line:,}): " if first.row else ""
        place = f" {where}{first.detail}"
    more = len(report.errors) - 1
    others = f" And {more} more kind{'s' if more > 1 else ''} of problem." if more else ""
    name = "" if report.name in problem.message else f"{report.name}: "
    return f"{name}{problem.message}{place}{others}"


def _describe(dataset_id: str, report: Report, directory: Path) -> DatasetInfo:
    return DatasetInfo(
        id=dataset_id,
        name=report.name,
        file_name=report.name,
        file_sha256=_sha256(directory / "original"),
        sha256=_sha256(directory / "conversations.jsonl"),
        row_count=report.usable_rows,
        mean_characters=round(report.characters / max(1, report.usable_rows), 1),
        is_usable=report.is_usable,
        created=time.time(),
    )


def _write_info(directory: Path, info: DatasetInfo) -> None:
    write_text_atomically(directory / "info.json", json.dumps(asdict(info), indent=2))


def _read_info(path: Path) -> DatasetInfo:
    return DatasetInfo(**json.loads(path.read_text(encoding="utf-8")))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:40] or "dataset"
