"""Datasets a person may train on: the samples in ``data/`` and what they uploaded.

An upload is copied once into the workspace under an id made here (slug and content hash) and never
changes. The original name is text, never a path.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from workbench.data.report import Dataset, read_dataset
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.settings import SAMPLES_DIR, Settings, ensure_dir

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")

# Id, file and what it teaches; the first one is what a newcomer starts with.
SAMPLES = {
    "sample-identity": ("identity.json", "a new name and maker"),
    "sample-reviews": ("reviews.json", "sort product reviews"),
    "sample-bookings": ("bookings.json", "bookings to JSON"),
}


@dataclass(frozen=True)
class DatasetInfo:
    """What identifies a dataset for good.

    Attributes:
        id: ``sample-…`` or slug and hash.
        name: The file name the person knows.
        sha256: Of the file's bytes, hexadecimal.
        row_count: Number of rows.
        mean_characters: Mean length of a conversation.
    """

    id: str
    name: str
    sha256: str
    row_count: int
    mean_characters: float


class DatasetStore:
    """The datasets of one workspace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def add(self, path: Path, name: str) -> DatasetInfo:
        """Check a file and keep a copy; adding the same content again finds the first copy.

        Raises:
            WorkbenchError: The file is too large or cannot be used, or there is no room for the copy.
        """
        self._check_size(path, name)
        dataset = read_dataset(path, name)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        dataset_id = f"{_slug(name)}-{digest[:10]}"
        info = _describe(dataset_id, name, digest, dataset)
        directory = ensure_dir(self._settings.datasets_dir / dataset_id)
        try:
            shutil.copyfile(path, directory / "data.json.part")
            (directory / "data.json.part").replace(directory / "data.json")
            write_text_atomically(directory / "info.json", json.dumps(asdict(info), indent=2))
        except OSError as error:
            raise WorkbenchError(
                f"Cannot keep a copy of {name}: {error.strerror or error}.",
                f"Free some space in {self._settings.home_dir} and try again.",
            ) from error
        return info

    def info(self, dataset_id: str) -> DatasetInfo:
        """Return what is known of one dataset.

        Raises:
            WorkbenchError: There is no such dataset.
        """
        if dataset_id in SAMPLES:
            path = SAMPLES_DIR / SAMPLES[dataset_id][0]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            return _describe(dataset_id, path.name, digest, read_dataset(path, path.name))
        path = self._directory(dataset_id) / "info.json"
        if not path.exists():
            raise WorkbenchError(
                f"There is no dataset {dataset_id!r} here any more.",
                "Upload the file again in the Data tab.",
            )
        return DatasetInfo(**json.loads(path.read_text(encoding="utf-8")))

    def uploads(self) -> list[DatasetInfo]:
        """Return what was uploaded, the newest first."""
        root = self._settings.datasets_dir
        found = list(root.glob("*/info.json")) if root.is_dir() else []
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [DatasetInfo(**json.loads(path.read_text(encoding="utf-8"))) for path in found]

    def path(self, dataset_id: str) -> Path:
        """Return the file of one dataset; it may not exist when the id is unknown."""
        if dataset_id in SAMPLES:
            return SAMPLES_DIR / SAMPLES[dataset_id][0]
        return self._directory(dataset_id) / "data.json"

    def load(self, dataset_id: str) -> Dataset:
        """Read one dataset again.

        Raises:
            WorkbenchError: There is no such dataset.
        """
        return read_dataset(self.path(dataset_id), self.info(dataset_id).name)

    def _directory(self, dataset_id: str) -> Path:
        if not _ID.fullmatch(dataset_id):
            raise WorkbenchError(f"{dataset_id!r} is not the id of a dataset.")
        return self._settings.datasets_dir / dataset_id

    def _check_size(self, path: Path, name: str) -> None:
        limit = self._settings.upload_limit_bytes
        if not path.is_file():
            raise WorkbenchError(f"There is no file {name}.", "Check the name and the folder.")
        if path.stat().st_size > limit:
            raise WorkbenchError(
                f"{name} has {path.stat().st_size / 1e6:,.0f} MB; the limit is {limit / 1e6:,.0f} MB.",
                "Use fewer rows, or raise WORKBENCH_UPLOAD_LIMIT_MB.",
            )


def _describe(dataset_id: str, name: str, digest: str, dataset: Dataset) -> DatasetInfo:
    return DatasetInfo(
        dataset_id, name, digest, len(dataset.rows), round(dataset.mean_characters, 1)
    )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", Path(name).stem.lower()).strip("-")[:40] or "dataset"
