"""The verb ``export``: take home what a run learned, or upload it to the Hugging Face Hub."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from workbench.cli_evaluate import add_strength_option
from workbench.errors import WorkbenchError
from workbench.export.process import ExportProcess, ExportResult, read_result
from workbench.export.request import GGUF_TYPES, HUB_KINDS, KIND_WORDS, KINDS, ExportRequest, Kind
from workbench.exports import hub_request, request_at, start_export
from workbench.presets import methods
from workbench.runs.store import Run
from workbench.runs.strength import chosen_strength
from workbench.services import Services
from workbench.words import describe_bytes

INTERRUPTED = 130


def add_export_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    verb = verbs.add_parser("export", help="take home what a run learned")
    verb.add_argument("run", metavar="RUN", help="the run's id, or latest")
    kinds = "; ".join(f"{kind}: {words}" for kind, words in KIND_WORDS.items())
    verb.add_argument(
        "--to",
        required=True,
        choices=(*KINDS, "hub"),
        help=f"{kinds}; hub: uploaded to the Hugging Face Hub, needs HF_TOKEN",
    )
    verb.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="where to; nothing may be there yet. Of one file it may be the folder to put it in",
    )
    verb.add_argument("--repo", metavar="NAME/REPO", help="hub: the repository, yours or new")
    verb.add_argument(
        "--what", choices=HUB_KINDS, help="hub: what to upload (default: adapter, if there is one)"
    )
    seen = verb.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="hub: only you see it (the default)")
    seen.add_argument("--public", action="store_true", help="hub: everybody sees it")
    verb.add_argument("--checkpoint", type=int, metavar="N", help="the model after step N")
    add_strength_option(verb)
    verb.add_argument(
        "--quant",
        choices=GGUF_TYPES,
        default="F16",
        help="gguf and ollama: how weights are kept. F16 and BF16 take 2 bytes each, Q8_0 about half, Q5_0 and Q4_0 "
        "about a third and less exact (default: F16)",
    )
    verb.add_argument(
        "--with-data", action="store_true", help="bundle: with the conversations themselves"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON document")
    verb.set_defaults(run_command=run_export)


def run_export(services: Services, options: argparse.Namespace) -> int:
    """Export in a process of its own, tell how far it is, and say how to use the result."""
    run = services.runs.get(options.run)
    request = _request(services, run, options)
    with _folder(request.out_path.parent):
        return _export(services, run, request, options)


def _export(
    services: Services, run: Run, request: ExportRequest, options: argparse.Namespace
) -> int:
    process = start_export(services, run, request)
    try:
        _follow(process, Console(stderr=True, quiet=options.json))
    except KeyboardInterrupt:
        if not options.json:
            print("Cancelling …", flush=True)
        last = process.stop()
        if last.state == "failed":
            raise WorkbenchError(last.message, last.hint) from None
        if last.state == "stopped":
            if not options.json:
                print("Nothing was uploaded." if request.repository else "Nothing was kept.")
            return INTERRUPTED
        # It was done before it could stop.
    _print(read_result(process.directory), options)
    return 0


def _request(services: Services, run: Run, options: argparse.Namespace) -> ExportRequest:
    choices = {
        "checkpoint": options.checkpoint,
        "gguf_type": options.quant,
        "strength": chosen_strength(run, options.strength),
    }
    if options.to == "hub":
        if options.out or not options.repo:
            raise WorkbenchError(
                "An upload is --to hub with --repo NAME/REPO, and --what; --out is for files."
            )
        has_adapter = methods()[run.config.method].saves != "model"
        kind: Kind = options.what or ("adapter" if has_adapter else "merged")
        return hub_request(services, kind, options.repo, private=not options.public, **choices)
    if options.repo or options.what or options.private or options.public:
        raise WorkbenchError("--repo, --what, --private and --public go with --to hub.")
    if not options.out:
        raise WorkbenchError(f"Say where to: --to {options.to} --out PATH.")
    return request_at(run, options.to, options.out, with_data=options.with_data, **choices)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make the folder of a result where only that is missing, and take it away if nothing came to be in it."""
    is_new = not path.exists() and path.parent.is_dir()
    if is_new:
        path.mkdir()
    try:
        yield
    finally:
        if is_new:
            with contextlib.suppress(OSError):  # what was made is in it
                path.rmdir()


def _follow(process: ExportProcess, console: Console) -> None:
    """Print each part of the work, and about ten lines of a long one.

    Raises:
        WorkbenchError: It failed.
    """
    shown = ""
    for moment in process.watch():
        tenths = 10 * moment.done // moment.total if moment.total else 0
        line = f"{moment.words}: {10 * tenths} %" if tenths else moment.words
        if moment.state == "running" and line != shown:
            console.print(line, markup=False, highlight=False)
            shown = line
    if moment.state == "failed":
        raise WorkbenchError(moment.message, moment.hint)
    if moment.state == "stopped":
        raise KeyboardInterrupt


def _print(result: ExportResult, options: argparse.Namespace) -> None:
    if options.json:
        document = asdict(result) | {"size_bytes": result.size_bytes}
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    print(f"{result.path}: {describe_bytes(result.size_bytes)}")
    for note in result.notes:
        print(f"Note: {note}")
    if result.usage:
        print("\nHow to use it:\n")
        print("\n".join(f"    {line}" for line in result.usage))
