"""What page and terminal share of exporting: whether it can work, how large it will be, and starting it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.alone import check_alone
from workbench.errors import WorkbenchError
from workbench.export.hub import check_repository
from workbench.export.process import ExportProcess, make_request, start
from workbench.export.request import (
    ENDINGS,
    NEEDS_MODEL,
    ExportRequest,
    Kind,
    check_request,
    check_room,
    needed_bytes,
    sums_path,
)
from workbench.models.sources import source_of
from workbench.runs.store import Run
from workbench.runs.strength import AS_TRAINED
from workbench.services import Services
from workbench.settings import ensure_dir, hub_token

STEM_CHARACTERS = 40


def workspace_request(services: Services, run: Run, kind: Kind, **choices: Any) -> ExportRequest:
    """Return a request whose result lies among the workspace's exports, under a name that is free.

    Args:
        services: Where the workspace is.
        run: The run.
        kind: What to make; an adapter becomes a zip file.
        **choices: The other fields of ``ExportRequest``.
    """
    folder = ensure_dir(services.settings.exports_dir)
    ending = ".zip" if kind == "adapter" else ENDINGS.get(kind, "")
    return make_request(kind, _free_path(folder, _stem(run, kind, choices), ending), **choices)


def request_at(run: Run, kind: Kind, out: Path, **choices: Any) -> ExportRequest:
    """Return a request whose result lies where a person said.

    Args:
        run: The run.
        kind: What to make.
        out: The result; of a kind that is one file, also the folder to put it in, there or not.
        **choices: The other fields of ``ExportRequest``.
    """
    ending = ENDINGS.get(kind)
    if ending and (out.expanduser().is_dir() or not out.suffix):
        out = _free_path(out.expanduser(), _stem(run, kind, choices), ending)
    return make_request(kind, out, **choices)


def hub_request(
    services: Services, kind: Kind, repository: str, *, private: bool, **choices: Any
) -> ExportRequest:
    """Return a request for an upload; what is uploaded lies in the workspace only until then.

    Args:
        services: Where the workspace is.
        kind: What to make.
        repository: ``owner/name`` on the Hugging Face Hub.
        private: Only its owner sees it there.
        **choices: The other fields of ``ExportRequest``.
    """
    folder = ensure_dir(services.settings.exports_dir)
    name = "upload-" + repository.replace("/", "--")
    request = make_request(kind, folder / Path(name).name, **choices)
    return replace(request, repository=repository, private=private)


def start_export(
    services: Services, run: Run, request: ExportRequest, token: str = ""
) -> ExportProcess:
    """Start an export in a process of its own, unless it cannot work.

    Args:
        services: What it needs.
        run: The run.
        request: What to export.
        token: Access token for an upload; empty for the one in ``HF_TOKEN``.

    Raises:
        WorkbenchError: As of ``check_export``, or there is no repository of that name or no token.
    """
    if request.repository:
        check_repository(request.repository, token or hub_token())
    check_export(services, run, request)
    if request.kind in NEEDS_MODEL:
        services.free_the_computer()  # what is evaluated by itself goes on after the next run
    return start(run, request, services.settings, token)


def check_export(services: Services, run: Run, request: ExportRequest) -> None:
    """Refuse what cannot work, before anything is written.

    Raises:
        WorkbenchError: The run has not ended or not well, a run, an evaluation or another export needs the computer, or there is no room.
    """
    snapshot = services.supervisor.summary(run)
    if snapshot.is_active:
        raise WorkbenchError(
            f'"{run.name}" has not ended ({snapshot.state}).', "Export it when it has, or stop it."
        )
    check_request(request, run)
    # What lies in its folder is of an earlier stop; of the way until then there may be checkpoints.
    is_of_a_step = request.checkpoint is not None and request.kind != "bundle"
    if not snapshot.model_saved and not is_of_a_step:
        raise WorkbenchError(
            f'"{run.name}" did not come to its end ({snapshot.state}).',
            "Resume it, or export a checkpoint of it.",
        )
    if request.kind in NEEDS_MODEL:
        check_alone(services)
    check_room(request.out_path, export_bytes(services, run, request))


def export_bytes(services: Services, run: Run, request: ExportRequest) -> float:
    """Return how large an export will be, about; 0 for one that is only text."""
    source = source_of(run.config)
    base_dir = services.models.directory(source)
    return needed_bytes(request, run, base_dir, services.models.facts(source))


def _stem(run: Run, kind: Kind, choices: Mapping[str, Any]) -> str:
    """Return what a result is called, without its ending."""
    slug = re.sub(r"[^a-z0-9]+", "-", run.name.lower())[:STEM_CHARACTERS].strip("-")
    words = [slug or "tuned"]
    words += [kind] if kind != "gguf" else []
    words += [choices.get("gguf_type", "F16")] if kind in ("gguf", "ollama") else []
    words += [f"step-{choices['checkpoint']}"] if choices.get("checkpoint") else []
    if (strength := choices.get("strength", AS_TRAINED)) != AS_TRAINED:
        words += [f"strength-{strength:g}"]
    return "-".join(words)


def _free_path(folder: Path, stem: str, ending: str) -> Path:
    path, count = folder / f"{stem}{ending}", 1
    while path.exists() or sums_path(path).exists():
        count += 1
        path = folder / f"{stem}-{count}{ending}"
    return path
