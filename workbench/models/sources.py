"""Where a model comes from: what a person chose or typed becomes one of a few kinds of source."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from workbench.config import STARTER_MODEL, TrainingConfig
from workbench.errors import WorkbenchError
from workbench.hub import is_name, is_repository_name
from workbench.models.catalogue import CatalogueEntry, catalogue
from workbench.settings import token_environment

MODELSCOPE, LOCAL, GGUF = "modelscope:", "local:", ".gguf"
# What stands before the name in the address bar of a browser.
_ADDRESSES = (
    (re.compile(r"^https?://(www\.)?(huggingface\.co|hf-mirror\.com)/"), ""),
    (re.compile(r"^https?://(www\.)?modelscope\.(cn|ai)/models/"), MODELSCOPE),
)
_REST_OF_ADDRESS = re.compile(r"(/(tree|blob|resolve|summary|files)(/.*)?)?/?([?#].*)?$")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from.

    Attributes:
        id: What the person chose: a catalogue id, ``owner/name`` on the Hugging Face Hub,
            ``modelscope:owner/name``, either of them with ``/file.gguf`` after it, ``local:name``, or (in the
            terminal) a folder.
        kind: ``starter`` (a wheel), ``hub``, ``modelscope``, ``local`` (the workspace's folder for models
            of one's own) or ``folder``.
        label: What the page calls it.
        location: Repository name, name in the workspace, or folder; empty for the starter model.
        file: The GGUF file that has the weights; empty where there are safetensors.
        entry: The catalogue entry, where it has one.
    """

    id: str
    kind: Literal["starter", "hub", "modelscope", "local", "folder"]
    label: str
    location: str
    file: str = ""
    entry: CatalogueEntry | None = None

    @property
    def slug(self) -> str:
        """The name of its folder in the workspace; distinct ids give distinct folders."""
        return self.id.replace(":", "=").replace("/", "--").lower()

    @property
    def is_downloaded(self) -> bool:
        """Whether it comes from one of the two hubs."""
        return self.kind in ("hub", "modelscope")

    def token_environment(self, token: str) -> dict[str, str]:
        """Return the environment in which a child process downloads it with an access token; empty without one."""
        if not self.is_downloaded or not self.takes(token):
            return {}
        name = "MODELSCOPE_API_TOKEN" if self.kind == "modelscope" else "HF_TOKEN"
        return token_environment(name, token)

    def takes(self, token: str) -> bool:
        """Say whether an access token may be shown to the hub of this model: it may not if it is of the other hub."""
        of_the_other = "hf_" if self.kind == "modelscope" else "ms-"
        return not token.strip().startswith(of_the_other)


def find_model(model_id: str, *, allow_folder: bool = False) -> ModelSource:
    """Resolve what a person chose or typed; an address of a model's page will do, too.

    Args:
        model_id: See ``ModelSource.id``.
        allow_folder: True on the command line only; the page never takes a path. A folder wins over a name on a hub.

    Raises:
        WorkbenchError: It is none of these.
    """
    entry = catalogue().get(model_id)
    if model_id == STARTER_MODEL:
        return ModelSource(model_id, "starter", entry.label if entry else model_id, "", entry=entry)
    if entry:
        return ModelSource(model_id, "hub", entry.label, entry.repository, entry=entry)
    if allow_folder and Path(model_id).expanduser().is_dir():
        folder = Path(model_id).expanduser().resolve()
        return ModelSource(str(folder), "folder", folder.name, str(folder))
    if source := _local(model_id) or _on_a_hub(_without_address(model_id.strip())):
        return source
    if "\\" in model_id or model_id.startswith(("/", "~", ".")):
        hint = (
            "The page takes no paths. Put a folder with config.json and *.safetensors, or a .gguf file, into "
            "local-models in the workspace; it is then among the models."
        )
    else:
        hint = (
            "Choose one that is offered, or write a Hugging Face name such as "
            f"HuggingFaceTB/SmolLM2-360M-Instruct, or {MODELSCOPE}owner/name."
        )
    raise WorkbenchError(f"There is no model {model_id!r}.", hint)


def source_of(config: TrainingConfig) -> ModelSource:
    """Return where a run's model comes from; a folder is an absolute path there.

    Raises:
        WorkbenchError: Its folder is gone.
    """
    return find_model(config.model, allow_folder=Path(config.model).is_absolute())


def source_of_slug(slug: str) -> ModelSource | None:
    """Undo ``ModelSource.slug``; ``None`` for a folder that is no model of ours."""
    try:
        return find_model(
            slug if slug in catalogue() else slug.replace("=", ":").replace("--", "/")
        )
    except WorkbenchError:
        return None


def _local(model_id: str) -> ModelSource | None:
    name = model_id.removeprefix(LOCAL)
    if name == model_id or not is_name(name):
        return None
    file = name if name.lower().endswith(GGUF) else ""
    return ModelSource(model_id, "local", name, name, file)


def _on_a_hub(model_id: str) -> ModelSource | None:
    """Read ``owner/name`` or ``owner/name/file.gguf``, on ModelScope with ``modelscope:`` before it."""
    text = model_id.removeprefix(MODELSCOPE)
    parts = text.split("/")
    repository, file = "/".join(parts[:2]), "/".join(parts[2:])
    is_file = is_name(file) and file.lower().endswith(GGUF)
    if not is_repository_name(repository, "model") or (file and not is_file):
        return None
    if text != model_id:
        return ModelSource(model_id, "modelscope", f"{text} (ModelScope)", repository, file)
    return ModelSource(model_id, "hub", model_id, repository, file)


def _without_address(text: str) -> str:
    for address, prefix in _ADDRESSES:
        if address.match(text):
            return prefix + _REST_OF_ADDRESS.sub("", address.sub("", text))
    return text
