"""The verb ``models``: which are offered, which are on this disk; download one, delete one."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from workbench.deleting import delete_model
from workbench.downloads import FetchProgress
from workbench.models.catalogue import catalogue
from workbench.models.sources import find_model
from workbench.services import Services
from workbench.words import describe_bytes


def add_models_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    models = verbs.add_parser("models", help="list, download or delete models")
    action = models.add_mutually_exclusive_group()
    action.add_argument(
        "--download",
        metavar="MODEL",
        help="an offered model, owner/name, or modelscope:owner/name; GGUF as owner/name/file.gguf",
    )
    action.add_argument("--delete", metavar="MODEL", help="remove a model from this disk")
    models.add_argument("--json", action="store_true", help="print one JSON document")
    models.set_defaults(run_command=run_models)


def run_models(services: Services, options: argparse.Namespace) -> int:
    """Do what is asked, then list the models."""
    if options.delete:
        delete_model(services, find_model(options.delete))
    if options.download:
        services.models.ensure(find_model(options.download), _tell)
    stored = {model.source.id: model for model in services.models.installed()}
    rows: list[dict[str, Any]] = [
        {
            "id": model_id,
            "parameters": entry.parameters,
            "licence": entry.licence,
            "gated": entry.gated,
            "download_bytes": entry.download_bytes,
        }
        for model_id, entry in catalogue().items()
    ]
    others = dict.fromkeys([*stored, *(source.id for source in services.models.own_models())])
    rows += [{"id": model_id} for model_id in others if model_id not in catalogue()]
    for row in rows:
        model = stored.get(row["id"])
        row |= {
            "disk_bytes": model.size_bytes if model else 0,
            "here": bool(model and model.is_whole),
        }
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        disk_bytes = row["disk_bytes"]
        here = f"{describe_bytes(disk_bytes)} on this disk" if disk_bytes else ""
        unfinished = " (not whole)" if disk_bytes and not row["here"] else ""
        print(f"{row['id']:34} {row.get('licence', ''):22} {here}{unfinished}".rstrip())
    return 0


def _tell(progress: FetchProgress) -> None:
    done = describe_bytes(progress.done_bytes)
    print(f"{progress.state}: {done} of {describe_bytes(progress.total_bytes)}", file=sys.stderr)
