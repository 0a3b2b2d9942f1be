"""Read one file in a process of its own: ``python -m workbench.data REQUEST``.

REQUEST is what ``adding`` writes: to keep a dataset, or to read questions. The last line on stdout is
``{"id": …}``, the fields of a ``QuestionFile``, or ``{"message": …, "hint": …}``. A stranger's file that makes a
library crash, or eats memory, ends this process and not the page.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.data.fixes import Fixes, fix_file
from workbench.data.formats import Mapping
from workbench.data.questions import write_questions
from workbench.data.store import DatasetInfo, DatasetStore
from workbench.errors import WorkbenchError
from workbench.settings import Settings

MEMORY_LIMIT_BYTES = 6_000_000_000


def main() -> None:
    """Do what the request says."""
    _limit_memory()
    try:
        answer = _answer(json.loads(sys.argv[1]))
    except WorkbenchError as error:
        answer = {"message": error.message, "hint": error.hint}
    print(json.dumps(answer))


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if "questions_path" not in request:
        return {"id": _add(request).id}
    limit = Settings.from_environment().upload_limit_bytes
    path, questions_path = Path(request["path"]), Path(request["questions_path"])
    return asdict(write_questions(path, request["name"], questions_path, limit))


def _add(request: dict[str, Any]) -> DatasetInfo:
    store = DatasetStore(Settings.from_environment())
    path, name = Path(request["path"]), request["name"]
    mapping = Mapping(**request["mapping"]) if request["mapping"] else None
    if not request["fixes"]:
        return store.add(path, name, mapping)
    with tempfile.TemporaryDirectory(prefix="workbench-") as directory:
        fixed_path = Path(directory) / "fixed.json"
        fix_file(path, name, fixed_path, Fixes.for_names(request["fixes"]), mapping)
        return store.add(fixed_path, f"{name.rsplit('.', 1)[0]} (repaired).json")


def _limit_memory() -> None:
    if sys.platform in ("win32", "darwin"):
        return  # the one has no such limit for a process, the other refuses it; the time limit holds there, too
    import resource

    _, highest = resource.getrlimit(resource.RLIMIT_AS)
    is_limited = highest != resource.RLIM_INFINITY
    limit = min(MEMORY_LIMIT_BYTES, highest) if is_limited else MEMORY_LIMIT_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, highest))


if __name__ == "__main__":
    main()
