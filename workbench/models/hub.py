"""Download a model from the Hugging Face Hub by name: safetensors only, no code from the repository."""

from __future__ import annotations

import shutil
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


def fetch_from_hub(repository: str, directory: Path, report: Report) -> None:
    """Download one repository into ``directory``; an interrupted download continues there.

    Raises:
        WorkbenchError: No such model, gated, no safetensors, no room, or no network.
    """
    from huggingface_hub import snapshot_download

    revision, total_bytes = _check_before_download(repository, directory)
    report(FetchProgress("downloading", 0, total_bytes))
    with FolderWatch(directory, total_bytes, report), explained(repository, "model"):
        snapshot_download(
            repository, revision=revision, allow_patterns=ALLOWED_FILES, local_dir=directory
        )
    shutil.rmtree(directory / ".cache", ignore_errors=True)


def _check_before_download(repository: str, directory: Path) -> tuple[str, int]:
    """Return the commit to download and its size in bytes."""
    from huggingface_hub import HfApi

    with explained(repository, "model"):
        info = HfApi().model_info(repository, files_metadata=True, timeout=20)
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if not any(name.endswith(".safetensors") for name in files):
        raise WorkbenchError(
            f"{repository} has no safetensors weights, and other kinds can run code when loaded.",
            "Choose a model with .safetensors files.",
        )
    wanted = [name for name in files if any(fnmatch(name, rule) for rule in ALLOWED_FILES)]
    total_bytes = sum(files[name] for name in wanted)
    check_free_space(
        repository, total_bytes, directory, "Free some space or choose a smaller model."
    )
    return info.sha or "main", total_bytes
