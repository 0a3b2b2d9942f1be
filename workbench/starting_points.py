"""What a person can start from: shipped recipes, presets of their own, and the settings of past runs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workbench.config import build_config, chosen_settings
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.presets import find_recipe, recipes
from workbench.runs.store import Run, RunStore
from workbench.settings import ensure_dir

OWN, RUN = "mine:", "run:"
NAMED = ("model", "method")  # a starting point without them leaves them as they are
NEWEST_RUNS = 10
LABEL_CHARACTERS = 60
HASH_CHARACTERS = 8


@dataclass(frozen=True)
class StartingPoint:
    """One line of the list; ``id`` is a recipe's, ``mine:FILE`` or ``run:ID``."""

    id: str
    label: str


class StartingPoints:
    """The starting points of one workspace.

    Args:
        directory: Where the person's own presets lie.
        runs: The runs whose settings can be used again.
    """

    def __init__(self, directory: Path, runs: RunStore) -> None:
        self._directory, self._runs = directory, runs

    def all(self, also: str = "") -> list[StartingPoint]:
        """Return the recipes, then the person's own presets, then the newest runs.

        Args:
            also: A starting point that is chosen: a run is among them then, however old it is.
        """
        shipped = [StartingPoint(i, f"{r.label}: {r.summary}") for i, r in recipes().items()]
        own = [
            StartingPoint(OWN + path.stem, f"My preset: {self._label(path)}")
            for path in sorted(self._paths(), key=self._label)
        ]
        runs = self._runs.all()
        newest = runs[:NEWEST_RUNS] + [r for r in runs[NEWEST_RUNS:] if RUN + r.id == also]
        past = [StartingPoint(RUN + run.id, f"As in the run {run.name}") for run in newest]
        return shipped + own + past

    def settings(self, point_id: str) -> dict[str, Any]:
        """Return the settings of a starting point; automatic ones, and the default ones, are left out.

        A run, and a preset made on the page, always name their model and method; a recipe seldom does.

        Raises:
            WorkbenchError: There is none of that name.
        """
        if point_id.startswith(OWN):
            return dict(self._read(self._path(point_id.removeprefix(OWN)))["settings"])
        if point_id.startswith(RUN):
            run = self._runs.get(point_id.removeprefix(RUN))
            named = {name: getattr(run.config, name) for name in NAMED}
            return chosen_settings(run.config, run.reasons) | named
        return find_recipe(point_id).settings

    def run(self, point_id: str) -> Run | None:
        """Return the run whose settings a starting point is, or ``None``."""
        run_id = point_id.removeprefix(RUN)
        if point_id == run_id or run_id not in ("latest", *self._runs.ids()):
            return None
        return self._runs.get(run_id)

    def save(self, label: str, values: Mapping[str, Any]) -> StartingPoint:
        """Keep settings under a name.

        Args:
            label: What the person calls it.
            values: The settings; those that are automatic or the default are left out.

        Raises:
            WorkbenchError: The name is empty or taken, whatever its capitals, or a setting cannot be used.
        """
        shown = " ".join(label.split())[:LABEL_CHARACTERS].strip()
        if not shown:
            raise WorkbenchError("The preset needs a name.", "Type one.")
        path = self._new_path(shown)
        taken = {self._label(path).casefold() for path in self._paths()}
        if shown.casefold() in taken or path.exists():
            raise WorkbenchError(
                f"You have a preset called {shown} already.", "Choose another name."
            )
        config = build_config(values)
        named = {name: getattr(config, name) for name in NAMED if name in values}
        settings = chosen_settings(config, ()) | named
        ensure_dir(self._directory)
        text = yaml.safe_dump({"label": shown, "settings": settings}, allow_unicode=True)
        write_text_atomically(path, text)
        return StartingPoint(OWN + path.stem, f"My preset: {shown}")

    def delete(self, point_id: str) -> None:
        """Remove one of the person's own presets.

        Raises:
            WorkbenchError: It is not one of those, or not there.
        """
        if not point_id.startswith(OWN):
            raise WorkbenchError("Only presets of your own can be deleted.")
        path = self._path(point_id.removeprefix(OWN))
        self._read(path)
        path.unlink()

    def _label(self, path: Path) -> str:
        try:
            return str(self._read(path)["label"])
        except WorkbenchError:
            return f"{path.stem} (cannot be read)"  # choosing it says why

    def _paths(self) -> list[Path]:
        return list(self._directory.glob("*.yaml"))

    def _path(self, name: str) -> Path:
        """Return the file of a preset by its name without the ending, else by what the person calls it."""
        files = {path.stem: path for path in self._paths()}
        labelled = {self._label(path): path for path in files.values()}
        path = files.get(name) or labelled.get(name)
        if path is None:
            raise WorkbenchError(f"There is no preset {name!r}.")
        return path

    def _new_path(self, shown: str) -> Path:
        """Return a file whose name has plain letters and digits; where these are not all of ``shown``, a hash, too."""
        slug = re.sub(r"[^a-z0-9]+", "-", shown.lower()).strip("-")
        path = self._directory / f"{slug}.yaml"
        if slug == shown.lower() and not path.exists():
            return path
        digest = hashlib.sha256(shown.casefold().encode()).hexdigest()[:HASH_CHARACTERS]
        return path.with_name(f"{slug}-{digest}.yaml".lstrip("-"))

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            record = yaml.safe_load(path.read_text(encoding="utf-8"))
            build_config(record["settings"])
            return {"label": str(record["label"]), "settings": record["settings"]}
        except FileNotFoundError as error:
            raise WorkbenchError(f"There is no preset {path.stem!r}.") from error
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError, WorkbenchError) as error:
            raise WorkbenchError(
                f"The preset {path.stem} cannot be used: {error}", f"Mend or delete {path}."
            ) from error
