"""Download a model from the Hugging Face Hub by name: safetensors only, no code from the repository."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from workbench.downloads import FetchProgress, FolderWatch, Report, check_free_space
from workbench.errors import WorkbenchError
from workbench.hub import explained

# Weights as safetensors, and the texts a tokenizer or a config is made of. No *.py, *.bin, *.pt.
ALLOWED_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
]


@dataclass(frozen=True)
class HubModel:
    """What the Hub says of a model before anything of it is downloaded.

    Attributes:
        revision: The commit that would be downloaded.
        download_bytes: The size of the files that would be.
        licence: Its short name, or empty where the owner gives none.
        gated: Whether the owner wants the licence accepted first.
    """

    revision: str
    download_bytes: int
    licence: str
    gated: bool


def fetch_from_hub(repository: str, directory: Path, report: Report) -> None:
    """Download one repository into ``directory``; of an interrupted download the whole files are kept.

    Raises:
        WorkbenchError: No such model, gated, no safetensors, no room, or no network.
    """
    from huggingface_hub import snapshot_download

    for path in directory.glob(
        ".cache/**/*.incomplete"
    ):  # huggingface_hub never takes them up again
        path.unlink()
    found = look_up(repository)
    total_bytes = found.download_bytes
    check_free_space(
        repository, total_bytes, directory, "Free some space or choose a smaller model."
    )
    report(FetchProgress("downloading", 0, total_bytes))
    with FolderWatch(directory, total_bytes, report), explained(repository, "model"):
        snapshot_download(
            repository, revision=found.revision, allow_patterns=ALLOWED_FILES, local_dir=directory
        )
    shutil.rmtree(directory / ".cache", ignore_errors=True)


def look_up(repository: str, token: str = "") -> HubModel:
    """Ask the Hub about a model.

    Args:
        repository: ``owner/name``.
        token: Access token; empty for the one in ``HF_TOKEN``, if any.

    Raises:
        WorkbenchError: No such model, no safetensors, or no network.
    """
    from huggingface_hub import HfApi

    with explained(repository, "model"):
        info = HfApi(token=token or None).model_info(repository, files_metadata=True, timeout=20)
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if not any(name.endswith(".safetensors") for name in files):
        raise WorkbenchError(
            f"{repository} has no safetensors weights, and other kinds can run code when loaded.",
            "Choose a model with .safetensors files.",
        )
    wanted = [name for name in files if any(fnmatch(name, rule) for rule in ALLOWED_FILES)]
    licences = [
        tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")
    ]
    return HubModel(
        info.sha or "main",
        sum(files[name] for name in wanted),
        licences[0] if licences else "",
        bool(info.gated),
    )
