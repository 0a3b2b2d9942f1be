"""Download a model from the Hugging Face Hub by name: safetensors only, no code from the repository.

``HF_ENDPOINT``, ``HF_TOKEN`` and the proxy variables are honoured by ``huggingface_hub`` itself.
"""

from __future__ import annotations

import shutil
import threading
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.models.progress import FetchProgress, Report

# Weights as safetensors, and the texts a tokenizer or a config is made of. No *.py, *.bin, *.pt.
ALLOWED_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
]

CONNECTION_HINT = "Check the network connection (and HF_ENDPOINT or the proxy), then try again."


def fetch_from_hub(repository: str, directory: Path, report: Report) -> None:
    """Download one repository into ``directory``; an interrupted download continues there.

    Raises:
        WorkbenchError: No such model, gated, no safetensors, no room, or no network.
    """
    from huggingface_hub import snapshot_download

    revision, total_bytes = _check_before_download(repository, directory)
    report(FetchProgress("downloading", 0, total_bytes))
    with _FolderWatch(directory, total_bytes, report), _explained(repository):
        snapshot_download(
            repository, revision=revision, allow_patterns=ALLOWED_FILES, local_dir=directory
        )
    shutil.rmtree(directory / ".cache", ignore_errors=True)


def _check_before_download(repository: str, directory: Path) -> tuple[str, int]:
    """Return the commit to download and its size in bytes."""
    from huggingface_hub import HfApi

    with _explained(repository):
        info = HfApi().model_info(repository, files_metadata=True, timeout=20)
    files = {file.rfilename: file.size or 0 for file in info.siblings or []}
    if not any(name.endswith(".safetensors") for name in files):
        raise WorkbenchError(
            f"{repository} has no safetensors weights, and other kinds can run code when loaded.",
            "Choose a model with .safetensors files.",
        )
    wanted = [name for name in files if any(fnmatch(name, rule) for rule in ALLOWED_FILES)]
    total_bytes = sum(files[name] for name in wanted)
    free_bytes = shutil.disk_usage(directory).free
    if total_bytes > free_bytes:
        raise WorkbenchError(
            f"{repository} needs {total_bytes / 1e9:,.1f} GB and the disk has "
            f"{free_bytes / 1e9:,.1f} GB free.",
            "Free some space or choose a smaller model.",
        )
    return info.sha or "main", total_bytes


class _FolderWatch:
    """Report the growth of a folder once a second while a download fills it."""

    def __init__(self, directory: Path, total_bytes: int, report: Report) -> None:
        self._directory, self._total_bytes, self._report = directory, total_bytes, report
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exception: object) -> None:
        self._finished.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._finished.wait(1.0):
            sizes = (path.stat().st_size for path in self._directory.rglob("*") if path.is_file())
            done = min(sum(sizes), self._total_bytes)
            self._report(FetchProgress("downloading", done, self._total_bytes))


class _explained:  # noqa: N801 - used as a verb
    """Turn what ``huggingface_hub`` raises into sentences."""

    def __init__(self, repository: str) -> None:
        self._repository = repository

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import httpx2
        from huggingface_hub import errors

        name = self._repository
        if isinstance(error, errors.GatedRepoError):
            raise WorkbenchError(
                f"{name} is gated: its owner wants you to accept the licence first.",
                f"Open https://huggingface.co/{name}, accept, then start the workbench with "
                "HF_TOKEN set to your access token.",
            ) from error
        if isinstance(error, errors.RepositoryNotFoundError):
            raise WorkbenchError(
                f"There is no model {name} on the Hugging Face Hub (or it is private).",
                "Check the spelling: owner/name, as in HuggingFaceTB/SmolLM2-360M-Instruct.",
            ) from error
        if isinstance(
            error, errors.HfHubHTTPError | errors.LocalEntryNotFoundError | httpx2.HTTPError
        ):
            raise WorkbenchError(
                f"{name} could not be downloaded from the Hugging Face Hub.", CONNECTION_HINT
            ) from error
        if isinstance(error, errors.OfflineModeIsEnabled):
            raise WorkbenchError(
                f"{name} is not on this computer, and HF_HUB_OFFLINE forbids downloading it.",
                "Unset HF_HUB_OFFLINE and try again.",
            ) from error
