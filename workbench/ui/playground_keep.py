"""Playground: a good answer becomes a row of a dataset, to train on next time. No gradio."""

from __future__ import annotations

import json
from collections.abc import Sequence

from filelock import FileLock

from workbench.data.formats import Message
from workbench.data.store import DatasetInfo
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.services import Services
from workbench.settings import ensure_dir

FILE_NAME = "good-answers.jsonl"


def keep_answer(services: Services, messages: Sequence[Message]) -> DatasetInfo:
    """Add a conversation to the dataset of good answers, and return that.

    A dataset never changes, so each answer makes a new one with all rows; the one before is removed
    unless a run needs it.

    Args:
        services: Where the datasets are.
        messages: A conversation that ends on the answer.

    Raises:
        WorkbenchError: There is no room for it.
    """
    path = ensure_dir(services.settings.home_dir) / FILE_NAME
    with FileLock(f"{path}.lock"):
        row = json.dumps({"messages": list(messages)}, ensure_ascii=False)
        rows = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if row not in rows:
            write_text_atomically(path, "\n".join([*rows, row]) + "\n")
        before = [info for info in services.datasets.uploads() if info.file_name == FILE_NAME]
        info = services.datasets.add(path, FILE_NAME)
        for old in before:
            if old.id != info.id:
                _delete_unless_needed(services, old)
        return info


def _delete_unless_needed(services: Services, info: DatasetInfo) -> None:
    if any(info.id in run.data.dataset_ids for run in services.runs.all()):
        return
    try:
        services.delete_dataset(info.id)
    except WorkbenchError:
        return  # a run that begins just now needs it
