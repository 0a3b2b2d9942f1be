"""A good answer becomes a row of a dataset, to train on next time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from workbench.data.formats import Message
from workbench.data.store import DatasetInfo, dataset_id_of
from workbench.deleting import delete_dataset
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.services import Services
from workbench.settings import ensure_dir
from workbench.words import describe_rows


def keep_answer(services: Services, messages: Sequence[Message]) -> DatasetInfo:
    """Add a conversation to the dataset of good answers, and return that.

    A dataset never changes, so each answer makes a new one with all rows; the one before is removed
    unless a run learned from it. Where the person deleted that one, its rows are gone, too.

    Args:
        services: Where the datasets are.
        messages: A conversation that ends on the answer.

    Raises:
        WorkbenchError: There is no room for it.
    """
    path = services.settings.good_answers_path
    ensure_dir(path.parent)
    with FileLock(f"{path}.lock"):
        row = json.dumps({"messages": list(messages)}, ensure_ascii=False)
        before = _dataset_of(services, path)
        # Not splitlines(): JSON leaves U+2028 and other ends of lines inside of a text as they are.
        rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n") if before else []
        if row not in rows:
            write_text_atomically(path, "\n".join([*rows, row]) + "\n")
        info = services.datasets.add(path, path.name)
        if before and before != info.id:
            info = services.datasets.rename(info.id, services.datasets.info(before).name)
            _delete_unless_needed(services, before)
        return info


def kept_words(info: DatasetInfo) -> str:
    """Say where an answer is now."""
    rows = describe_rows(info.row_count)
    return f"Added. {info.name} has {rows} now; the Data tab lists it."


def _dataset_of(services: Services, path: Path) -> str | None:
    """Return the id of the dataset that was made of the rows so far, if it is there."""
    dataset_id = dataset_id_of(path, path.name) if path.exists() else None
    return dataset_id if dataset_id in [info.id for info in services.datasets.uploads()] else None


def _delete_unless_needed(services: Services, dataset_id: str) -> None:
    if any(dataset_id in run.data.dataset_ids for run in services.runs.all()):
        return
    try:
        delete_dataset(services, dataset_id)
    except WorkbenchError:
        return  # a run that begins just now needs it
