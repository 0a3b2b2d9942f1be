"""Read a file from the page in a child process, so that no file can harm the page."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.data.formats import Mapping
from workbench.data.questions import QuestionFile
from workbench.data.store import DatasetInfo, DatasetStore
from workbench.errors import WorkbenchError
from workbench.processes import start_child
from workbench.settings import Settings

CHILD = ["-m", "workbench.data"]
TIME_LIMIT_SECONDS = 600


def add_in_child(
    settings: Settings,
    path: Path,
    name: str,
    mapping: Mapping | None = None,
    fixes: Sequence[str] = (),
) -> DatasetInfo:
    """Do what ``DatasetStore.add`` does, in a process of its own.

    Args:
        settings: Where the workspace is.
        path: The file.
        name: What the person calls it.
        mapping: Which column is what, when the names do not tell.
        fixes: Names of ``fixes.offered_fixes``; then a repaired copy is added instead of the file.

    Raises:
        WorkbenchError: As there; or the process needed too much memory or time, or crashed.
    """
    request = {
        "path": str(path),
        "name": name,
        "mapping": asdict(mapping) if mapping else None,
        "fixes": list(fixes),
    }
    return DatasetStore(settings).info(_ask_child(settings, name, request)["id"])


def read_questions_in_child(
    settings: Settings, path: Path, name: str, questions_path: Path
) -> QuestionFile:
    """Do what ``questions.write_questions`` does, in a process of its own.

    Raises:
        WorkbenchError: As there; or the process needed too much memory or time, or crashed.
    """
    request = {"path": str(path), "name": name, "questions_path": str(questions_path)}
    return QuestionFile(**_ask_child(settings, name, request))


def _ask_child(settings: Settings, name: str, request: dict[str, Any]) -> dict[str, Any]:
    arguments = [*CHILD, json.dumps(request)]
    child = start_child(arguments, settings, settings.logs_dir / "data.log", talk=True)
    try:
        output, _ = child.communicate(timeout=TIME_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.communicate()
        raise WorkbenchError(
            f"Checking {name} took more than {TIME_LIMIT_SECONDS // 60} minutes.", "Use fewer rows."
        ) from error
    if child.returncode != 0 or not output.strip():
        raise WorkbenchError(
            f"{name} could not be checked: reading it needed too much memory, or it is damaged.",
            "Use fewer rows, or save it again as JSON or CSV.",
        )
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    if "message" in answer:
        raise WorkbenchError(answer["message"], answer["hint"])
    return answer
