"""What the page says of exports: pure functions from facts to HTML and choices. Imports no gradio."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.child_progress import Progress
from workbench.export.history import RunExport
from workbench.export.process import ExportResult
from workbench.export.request import ExportRequest, GgufType, Kind
from workbench.runs.store import Run
from workbench.runs.strength import AS_TRAINED
from workbench.ui.views import plain
from workbench.words import describe_bytes, describe_duration

SAVED_MODEL = "saved"  # the state of a run that is exported; or the step of a checkpoint
KIND_LABELS: dict[Kind, str] = {
    "adapter": "Adapter",
    "merged": "Merged model",
    "gguf": "GGUF file",
    "ollama": "Ollama folder",
    "bundle": "Run bundle",
    "card": "Model card",
}
KIND_HELP: dict[Kind, str] = {
    "adapter": "Only what was learned, as a zip file to unpack and use with the base model: for PEFT and vLLM.",
    "merged": "Base model and adapter as one model, in a folder of safetensors: for transformers, vLLM and all that "
    "reads Hugging Face models.",
    "gguf": "The whole model in one file: for llama.cpp and LM Studio.",
    "ollama": "The whole model as a GGUF file, and the Modelfile that Ollama asks for, in a folder.",
    "bundle": "All that is needed to do the run again, as a zip file: settings, seed, versions and curves; for "
    "colleagues, papers, and yourself in a year.",
    "card": "A text that says what the model is, what it was made from and what was measured; it is in the other "
    "exports as well.",
}
GGUF_LABELS: dict[GgufType, str] = {
    "F16": "F16: 16 bits a weight",
    "BF16": "BF16: 16 bits a weight, less exact and with a wider range",
    "Q8_0": "Q8_0: 8 bits a weight, about half as large",
    "Q5_0": "Q5_0: 5 bits a weight, little more than a third as large; many answers change",
    "Q4_0": "Q4_0: 4 bits a weight, about a third as large; answers change the most",
}


def size_words(kind: Kind, size_bytes: float, free_bytes: float) -> str:
    """Say what a kind of export is for, and how large it will be."""
    size = f"About {describe_bytes(size_bytes)}" if size_bytes else "A few kB"
    if kind == "bundle" and size_bytes:
        size = f"At most {describe_bytes(size_bytes)}"
    return f"{KIND_HELP[kind]} {size}; {describe_bytes(free_bytes)} are free on this disk."


def upload_question(run: Run, request: ExportRequest, address: str, size_bytes: float) -> str:
    """Say what would be uploaded, where, and who sees it, as Markdown."""
    what = KIND_LABELS[request.kind]
    if request.kind == "gguf":
        what += f" ({request.gguf_type})"
    if request.checkpoint is not None:
        what += f" of step {request.checkpoint:,}"
    if request.strength != AS_TRAINED:
        what += f" at strength {request.strength:g}"
    seen = "**private**: only you, and whom you let in, can see it"
    if not request.private:
        seen = "**public**: everybody can see and download it, under the licence of its base model"
    return (
        f"**Upload this?** {what} of *{plain(run.name)}*, about {describe_bytes(size_bytes)}, with its model card, to "
        f"`{address}`, {seen}. The card names your datasets, the settings and what was measured. The rows "
        "of your data stay here."
    )


def progress_html(export: RunExport | None) -> str:
    """Say how far an export is, or how it ended, as HTML; empty when it is done and listed below."""
    if export is None or export.progress.state == "finished":
        return ""
    progress, name = export.progress, escape(export.request.name)
    if progress.state == "stopped":
        kept = "uploaded" if export.request.repository else "kept"
        return f'<div class="wb-banner">{name}: cancelled. Nothing was {kept}.</div>'
    if progress.state == "failed":
        words = escape(f"{progress.message} {progress.hint}".strip())
        return f'<div class="wb-banner wb-failed">{name}: {words}</div>'
    words = "Cancelling" if export.is_stopping else _running_words(progress)
    share = progress.done / progress.total if progress.total else 0.0
    moving = "" if progress.total else " wb-unknown"
    return (
        f'<div class="wb-banner">{name}: {escape(words)} …'
        f'<div class="wb-bar{moving}"><div style="width:{100 * share:.0f}%"></div></div></div>'
    )


def _running_words(progress: Progress) -> str:
    words = progress.words
    if progress.total:
        words += f": {100 * progress.done // progress.total} %"
    if progress.eta_seconds:
        words += f", about {describe_duration(progress.eta_seconds)} left of this part"
    return words


def exports_html(exports: Sequence[RunExport], served_dir: Path) -> str:
    """List what was made of a run, as HTML.

    Args:
        exports: The exports, the newest first.
        served_dir: Files below it can be downloaded.
    """
    made = [_export_html(export, served_dir) for export in exports if export.result]
    return f'<div class="wb-exports">{"".join(made)}</div>' if made else ""


def _export_html(export: RunExport, served_dir: Path) -> str:
    result = export.result
    if result is None:
        return ""
    name, place = export.request.name, _place(Path(result.path), served_dir)
    if export.request.repository:
        address = escape(result.path)
        place = f'<p><a href="{address}" target="_blank" rel="noopener">{address}</a></p>'
    notes = "".join(f"<p>{escape(note)}</p>" for note in result.notes)
    return (
        f'<div class="wb-export"><h4>{escape(name)}</h4>'
        f'<p class="wb-help">{KIND_LABELS[result.kind]}, {describe_bytes(result.size_bytes)}, '
        f"{_when(export)}</p>{place}{notes}{_usage(result)}{_files(result, served_dir)}</div>"
    )


def _place(path: Path, served_dir: Path) -> str:
    where = f"<p>On this computer: <code>{escape(str(path))}</code></p>"
    if path.is_dir() or not path.is_relative_to(served_dir):
        return where
    return f"<p>{_download(path, f'Download {path.name}', 'wb-download')}</p>{where}"


def _download(path: Path, words: str, of_class: str = "") -> str:
    """Return a link that is served straight from the disk, by gradio's own route: a component would first copy it."""
    address = f"gradio_api/file={quote(path.as_posix())}"
    return (
        f'<a class="{of_class}" href="{address}" download="{escape(path.name)}">{escape(words)}</a>'
    )


def _usage(result: ExportResult) -> str:
    if not result.usage:
        return ""
    zipped = result.kind == "adapter" and result.path.endswith(".zip")
    first = "How to use it: unpack it, then, in Python:" if zipped else "How to use it:"
    lines = "\n".join(escape(line) for line in result.usage)
    return f"<p>{first}</p><pre>{lines}</pre>"


def _files(result: ExportResult, served_dir: Path) -> str:
    """List the files with their sums; those of a folder can be downloaded one by one."""
    folder = Path(result.path)
    is_served = folder.is_dir() and folder.is_relative_to(served_dir)
    rows = "".join(
        f"<tr><td>{_download(folder / file.name, file.name) if is_served else escape(file.name)}</td>"
        f"<td>{describe_bytes(file.size_bytes)}</td><td><code>{file.sha256}</code></td></tr>"
        for file in result.files
    )
    heads = "<tr><th>file</th><th>size</th><th>SHA-256</th></tr>"
    title = "Download its files, and checksums" if is_served else "Checksums"
    return f"<details><summary>{title}</summary><table>{heads}{rows}</table></details>"


def export_choices(exports: Sequence[RunExport]) -> list[tuple[str, str]]:
    """Return label and id of what can be deleted."""
    return [
        (f"{Path(e.result.path).name}, {describe_bytes(e.result.size_bytes)}, {_when(e)}", e.id)
        for e in exports
        if e.result and not e.request.repository
    ]


def stored_update(exports: Sequence[RunExport], chosen: str | None) -> dict[str, Any]:
    """Return the choices of what can be deleted, and the newest as chosen, unless one of them is chosen already.

    What is chosen is not sent again: it may have changed on the page meanwhile.
    """
    choices = export_choices(exports)
    ids = [export_id for _, export_id in choices]
    if chosen in ids:
        return {"choices": choices}
    return {"choices": choices, "value": ids[0] if ids else None}


def delete_export_question(export: RunExport) -> str:
    """Ask whether to delete what an export made, and say what that frees, as Markdown."""
    size = f"That frees {describe_bytes(export.result.size_bytes)}. " if export.result else ""
    return f"**Delete “{plain(export.request.name)}”?** {size}It cannot be undone."


def export_to_follow(exports: Sequence[RunExport]) -> RunExport | None:
    """Return the newest export that runs, else the newest; ``None`` without any."""
    return next((export for export in exports if export.is_running), next(iter(exports), None))


def _when(export: RunExport) -> str:
    return time.strftime("%d %b %H:%M", time.localtime(export.progress.time))
