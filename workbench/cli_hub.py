"""The verb ``hub``: what a dataset on the Hugging Face Hub holds, and one file of it."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.data.hub import HubListing, download_file, list_data_files
from workbench.downloads import FetchProgress, Report
from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.words import describe_bytes


def add_hub_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    hub = verbs.add_parser("hub", help="list or download data files of the Hugging Face Hub")
    hub.add_argument("dataset", metavar="DATASET", help="owner/name of a dataset")
    hub.add_argument("file", metavar="FILE", nargs="?", help="download this one of its files")
    hub.add_argument("--out", metavar="FILE", help="where to (default: its name, in this folder)")
    hub.add_argument("--json", action="store_true", help="print one JSON document")
    hub.set_defaults(run_command=run_hub)


def run_hub(services: Services, options: argparse.Namespace) -> int:
    """List the files of a dataset, or download one."""
    if options.out and not options.file:
        raise WorkbenchError(
            "--out needs a FILE to download.", f"List them with: workbench hub {options.dataset}"
        )
    listing = list_data_files(options.dataset)
    if options.file:
        _download(services, listing, options)
    elif options.json:
        labelled = [asdict(file) | {"label": file.label} for file in listing.files]
        print(json.dumps(asdict(listing) | {"files": labelled}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_listing_lines(listing)))
    return 0


def _download(services: Services, listing: HubListing, options: argparse.Namespace) -> None:
    file = listing.file(options.file)
    out_path = Path(options.out or file.name)
    if out_path.exists():
        raise WorkbenchError(f"{out_path} exists already.", "Choose another name with --out.")
    if not out_path.parent.is_dir():
        raise WorkbenchError(f"There is no folder {out_path.parent}.", "Make it first.")
    with tempfile.TemporaryDirectory(prefix=".hub-", dir=out_path.parent) as directory:
        limit_bytes = services.settings.upload_limit_bytes
        report = _report(quiet=options.json or not sys.stderr.isatty())
        fetched_path = download_file(listing, file.path, Path(directory), limit_bytes, report)
        fetched_path.rename(out_path)
    if options.json:
        document = {"repository": listing.repository, "revision": listing.revision}
        document |= asdict(file) | {"out": str(out_path)}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        print(f"{out_path}: {describe_bytes(file.size_bytes)}. `workbench check` looks into it.")


def _report(*, quiet: bool) -> Report:
    def show(progress: FetchProgress) -> None:
        if not quiet:
            size = (
                f"{describe_bytes(progress.done_bytes)} of {describe_bytes(progress.total_bytes)}"
            )
            end = "\n" if progress.state == "done" else "\r"
            print(f"{size:40}", end=end, file=sys.stderr, flush=True)

    return show


def _listing_lines(listing: HubListing) -> list[str]:
    width = max(len(file.path) for file in listing.files)
    lines = [f"{file.path:{width}}  {file.label}" for file in listing.files]
    lines.append(f"Licence: {listing.licence or 'not stated'}.")
    if listing.gated:
        lines.append("It is gated: accept its licence on its page and set HF_TOKEN.")
    return lines
