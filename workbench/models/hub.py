"""Download a model from the Hugging Face Hub by name: safetensors or one GGUF file, no code of the repository."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from workbench.downloads import FetchProgress, Report, check_free_space, watched
from workbench.errors import WorkbenchError
from workbench.hub import explained

# Weights as safetensors, and the texts a tokenizer or a config is made of. No *.py, *.bin, *.pt.
WEIGHTS, OUR_WEIGHTS = "*.safetensors", "model*.safetensors"
ALLOWED_FILES = (
    WEIGHTS,
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
)
SPACE_HINT = "Free some space or choose a smaller model."


@dataclass(frozen=True)
class HubModel:
    """What a hub says of a model before anything of it is downloaded.

    Attributes:
        revision: The commit that would be downloaded.
        files: The size in bytes of each file that would be, by name.
        licence: Its short name, or empty where the owner gives none.
        gated: Whether the owner wants the licence accepted first.
        architecture: Its ``config.json``; empty where that cannot be read yet.
    """

    revision: str
    files: Mapping[str, int]
    licence: str
    gated: bool
    architecture: Mapping[str, Any] = field(default_factory=dict)

    @property
    def download_bytes(self) -> int:
        """The size of the files that would be downloaded."""
        return sum(self.files.values())


def fetch_from_hub(repository: str, file: str, directory: Path, report: Report) -> None:
    """Download one repository into ``directory``; of an interrupted download the whole files are kept.

    Args:
        repository: ``owner/name``.
        file: The GGUF file to take; empty for the safetensors and what belongs to them.
        directory: Where to.
        report: Told how far it is.

    Raises:
        WorkbenchError: No such model, gated, no safetensors, no room, or no network.
    """
    from huggingface_hub import snapshot_download

    for path in directory.glob(
        ".cache/**/*.incomplete"
    ):  # huggingface_hub never takes them up again
        path.unlink()
    found = look_up_on_hub(repository, file)
    total_bytes = found.download_bytes
    check_free_space(repository, total_bytes, directory, SPACE_HINT)
    report(FetchProgress("downloading", 0, total_bytes))
    download = partial(
        snapshot_download,
        repository,
        revision=found.revision,
        allow_patterns=list(found.files),
        local_dir=directory,
    )
    with explained(repository, "model"):
        watched(download, directory, total_bytes, report)
    shutil.rmtree(directory / ".cache", ignore_errors=True)


def look_up_on_hub(repository: str, file: str, token: str = "") -> HubModel:
    """Ask the Hub about a model.

    Args:
        repository: ``owner/name``.
        file: The GGUF file to take; empty for the safetensors and what belongs to them.
        token: Access token; empty for the one in ``HF_TOKEN``, if any.

    Raises:
        WorkbenchError: No such model, no safetensors, or no network.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token or None)
    with explained(repository, "model"):
        info = api.model_info(repository, files_metadata=True, timeout=20)
    files = wanted_files(
        repository, file, {item.rfilename: item.size or 0 for item in info.siblings or []}
    )
    licences = [
        tag.removeprefix("license:") for tag in info.tags or [] if tag.startswith("license:")
    ]
    revision = info.sha or "main"
    return HubModel(
        revision,
        files,
        licences[0] if licences else "",
        bool(info.gated),
        _architecture(api, repository, revision) if "config.json" in files else {},
    )


def wanted_files(repository: str, file: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """Choose what is downloaded out of everything a repository has.

    Raises:
        WorkbenchError: It has neither safetensors nor the file that was asked for.
    """
    if file in sizes:
        return {file: sizes[file]}
    squeezed = sorted(name for name in sizes if name.lower().endswith(".gguf") and "/" not in name)
    if file:
        raise WorkbenchError(
            f"{repository} has no file {file}.",
            f"It has {', '.join(squeezed[:8])}." if squeezed else "It has no GGUF file at all.",
        )
    if not any(name.endswith(".safetensors") for name in sizes):
        raise WorkbenchError(
            f"{repository} has no safetensors weights, and other kinds can run code when loaded.",
            f"Write {repository}/{squeezed[0]} to take that GGUF file."
            if squeezed
            else "Choose a model with .safetensors files.",
        )
    wanted = {
        name: size
        for name, size in sizes.items()
        if any(fnmatch(name, rule) for rule in ALLOWED_FILES)
    }
    others = {name for name in wanted if fnmatch(name, WEIGHTS) and not fnmatch(name, OUR_WEIGHTS)}
    # Some owners add the same weights once more, under the names of another program (Mistral's consolidated).
    is_twice = any(fnmatch(name, OUR_WEIGHTS) for name in wanted)
    return {name: size for name, size in wanted.items() if not (is_twice and name in others)}


def _architecture(api: Any, repository: str, revision: str) -> Mapping[str, Any]:
    """Return the model's ``config.json``; empty where the owner shows it to nobody yet."""
    from huggingface_hub import errors

    with tempfile.TemporaryDirectory() as folder, explained(repository, "model"):
        try:
            path = api.hf_hub_download(
                repository, "config.json", revision=revision, local_dir=folder
            )
        except errors.GatedRepoError:
            return {}
        return read_architecture(Path(path).read_text(encoding="utf-8"))


def read_architecture(text: str) -> Mapping[str, Any]:
    """Read a ``config.json``; a broken one is told when the model is loaded, so here it is empty."""
    try:
        architecture = json.loads(text)
    except ValueError:
        return {}
    return architecture if isinstance(architecture, dict) else {}
