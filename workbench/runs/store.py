"""Run directories: made once, listed, read. Path safety lives here: everybody else passes ids.

::

    runs/<id>/config.yaml        every setting, resolved
             run.json            name, reasons of automatic settings, the plan, the parent
             data.json           which datasets, their hashes and weights, and the split
             label.json          what the person calls it since, tags and a note
             waiting.json        there while it waits in the line: its place
             process.json        pid and create time of the process
             stop                there when the person asked to stop
             evaluation-due      there from the end of training until it was evaluated by itself
             events.jsonl log.txt environment.json checkpoints/ model/
             conversations/ votes.jsonl    what was said on the Playground (chats.py, votes.py)
             strength.json       how much of what it learned is used (strength.py)
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from workbench.config import TrainingConfig
from workbench.errors import WorkbenchError
from workbench.files import write_text_atomically
from workbench.settings import Settings, ensure_dir

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
LABEL = "label.json"
UNREADABLE = (
    WorkbenchError, OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError,
)  # fmt: skip
NAME_CHARACTERS = 80
# libyaml reads ten times as fast as the Python one; a workspace may have hundreds of runs.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
NEEDED_FREE_BYTES = 200_000_000  # an adapter, a checkpoint and the logs of a small run


@dataclass(frozen=True)
class DataPart:
    """One dataset of a run.

    ``path`` is where its conversations lie, which never change; ``sha256`` is checked before training.
    ``weight`` says how often an epoch sees each row: 2 is twice, 0.5 is half of the rows. ``left_out_rows`` of the
    file that the person brought had no usable question and answer, and are not in it.
    """

    id: str
    name: str
    path: str
    sha256: str
    row_count: int
    weight: float = 1.0
    left_out_rows: int = 0


@dataclass(frozen=True)
class DataReference:
    """Which rows a run trains on and is checked with; written to ``data.json``.

    Each part holds back its own ``validation_share``, unless ``validation`` is a dataset of its own.
    ``general`` is mixed in to keep general skills; ``general_check`` shows how much of them was kept.
    """

    parts: tuple[DataPart, ...]
    validation: DataPart | None
    validation_share: float
    seed: int
    general: DataPart | None = None
    general_check: DataPart | None = None

    @property
    def datasets(self) -> tuple[DataPart, ...]:
        """Every dataset that is learned from or checked with."""
        return (*self.parts, self.validation) if self.validation else self.parts

    @property
    def dataset_ids(self) -> set[str]:
        """The id of every dataset the run reads."""
        general = (self.general, self.general_check)
        return {part.id for part in (*self.datasets, *general) if part}


@dataclass(frozen=True)
class Run:
    """One training attempt on disk.

    ``reasons`` says for each automatic setting why it has its value; ``planned_seconds`` is what the
    page promised, ``planned_step_seconds`` for one step, ``planned_memory_bytes`` for the peak where memory
    is counted closely; ``None`` where it promised nothing. ``hands_memory_back`` as in the plan. ``parent`` is
    the id of the run it was made from; if it ``continues`` that one, it begins with what that one learned.
    ``tags`` and ``note`` are the person's.
    """

    id: str
    directory: Path
    name: str
    created: float
    config: TrainingConfig
    data: DataReference
    reasons: dict[str, str]
    planned_seconds: float | None
    planned_step_seconds: float | None = None
    planned_memory_bytes: int | None = None
    hands_memory_back: bool = False
    parent: str | None = None
    continues: bool = False
    tags: tuple[str, ...] = ()
    note: str = ""

    @property
    def events_path(self) -> Path:
        return self.directory / "events.jsonl"

    @property
    def log_path(self) -> Path:
        return self.directory / "log.txt"

    @property
    def stop_path(self) -> Path:
        return self.directory / "stop"

    @property
    def evaluation_due_path(self) -> Path:
        return self.directory / "evaluation-due"

    @property
    def model_dir(self) -> Path:
        return self.directory / "model"

    def forget_model(self) -> None:
        """Remove the saved model; nobody finds half of it."""
        gone_dir = self.directory / "model.gone"
        shutil.rmtree(gone_dir, ignore_errors=True)
        if self.model_dir.is_dir():
            self.model_dir.rename(gone_dir)
            shutil.rmtree(gone_dir, ignore_errors=True)

    @property
    def checkpoints_dir(self) -> Path:
        return self.directory / "checkpoints"

    @property
    def process_path(self) -> Path:
        return self.directory / "process.json"

    @property
    def waiting_path(self) -> Path:
        return self.directory / "waiting.json"


class RunStore:
    """The runs of one workspace."""

    def __init__(self, settings: Settings, root_dir: Path | None = None) -> None:
        self.root_dir = root_dir or settings.runs_dir
        self._opened: dict[str, tuple[int, Run]] = {}  # a run never changes, its label may
        self._created: dict[str, float] = {}

    def create(
        self,
        config: TrainingConfig,
        data: DataReference,
        name: str,
        reasons: dict[str, str],
        planned_seconds: float | None,
        **details: Any,
    ) -> Run:
        """Write a new run directory; it becomes visible only when complete.

        Args:
            config: Every setting, resolved.
            data: What it learns from.
            name: What to call it; empty for its id.
            reasons: Why automatic settings have their values.
            planned_seconds: As in ``Run``.
            **details: The other fields of ``Run`` that are known from the beginning.

        Raises:
            WorkbenchError: The disk is full or cannot be written.
        """
        self._check_room()
        try:
            run_id, partial_dir = self._claim_id(name)
        except OSError as error:
            raise _not_written(error) from error
        record = {
            "name": name.strip() or run_id,
            "created": time.time(),
            "reasons": reasons,
            "planned_seconds": planned_seconds,
            **details,
        }
        try:
            (partial_dir / "config.yaml").write_text(
                yaml.safe_dump(config.model_dump(), sort_keys=False), encoding="utf-8"
            )
            write_json(partial_dir / "data.json", asdict(data))
            write_json(partial_dir / "run.json", record)
            partial_dir.rename(self.root_dir / run_id)
        except OSError as error:
            shutil.rmtree(partial_dir, ignore_errors=True)
            raise _not_written(error) from error
        return self.get(run_id)

    def ids(self) -> list[str]:
        """Return the ids of all runs, the newest first.

        Ids begin with local time, which goes back an hour each autumn, so what a run says itself counts.
        """
        if not self.root_dir.is_dir():
            return []
        found = {
            path.name: created
            for path in self.root_dir.iterdir()
            if _ID.fullmatch(path.name) and (created := self._created_at(path)) is not None
        }
        return sorted(found, key=found.__getitem__, reverse=True)

    def get(self, run_id: str) -> Run:
        """Return one run; ``latest`` is the newest.

        Raises:
            WorkbenchError: There is no such run.
        """
        if run_id == "latest":
            ids = self.ids()
            if not ids:
                raise WorkbenchError("There is no run yet.", "Train a model first.")
            run_id = ids[0]
        directory = self.root_dir / run_id
        if not _ID.fullmatch(run_id) or not (directory / "run.json").is_file():
            raise WorkbenchError(
                f"There is no run {run_id!r}.", "`workbench runs` lists the runs there are."
            )
        label_path = directory / LABEL
        changed = label_path.stat().st_mtime_ns if label_path.exists() else 0
        known = self._opened.get(run_id)
        if known is None or known[0] != changed:
            known = self._opened[run_id] = changed, open_run(directory)
        return known[1]

    def all(self) -> list[Run]:
        """Return all runs, the newest first; one that cannot be read is left out."""
        found = []
        for run_id in self.ids():
            try:
                found.append(self.get(run_id))
            except UNREADABLE:
                continue  # deleted meanwhile, or made by a newer version
        return found

    def label(self, run: Run, name: str, tags: Sequence[str], note: str) -> Run:
        """Change what the person calls a run, and what they say of it.

        Raises:
            WorkbenchError: The name is empty.
        """
        shown = " ".join(name.split())[:NAME_CHARACTERS]
        if not shown:
            raise WorkbenchError("A run needs a name.", "Type one.")
        kept = sorted({tag for tag in (" ".join(tag.split()) for tag in tags) if tag})
        write_json(run.directory / LABEL, {"name": shown, "tags": kept, "note": note.strip()})
        return self.get(run.id)

    def delete(self, run: Run) -> None:
        """Remove a run and all it saved. Its process must have ended."""
        run.directory.rename(self.root_dir / f".{run.id}.deleted")  # now nobody finds half of it
        for gone_dir in self.root_dir.glob(".*.deleted"):  # this one, and what was left of others
            shutil.rmtree(gone_dir, ignore_errors=True)
        self._opened.pop(run.id, None)
        self._created.pop(run.id, None)

    def _check_room(self) -> None:
        free_bytes = shutil.disk_usage(ensure_dir(self.root_dir)).free
        if free_bytes < NEEDED_FREE_BYTES:
            raise WorkbenchError(
                f"The disk has only {free_bytes / 1e6:,.0f} MB free; a run needs at least "
                f"{NEEDED_FREE_BYTES / 1e6:,.0f} MB.",
                f"Free some space on the disk of {self.root_dir} and press Start again.",
            )

    def _created_at(self, directory: Path) -> float | None:
        """Return when a run was made, in seconds since the epoch; ``None`` where there is no run."""
        if directory.name not in self._created:
            try:
                created = float(read_json(directory / "run.json")["created"])
            except (FileNotFoundError, NotADirectoryError):
                return None
            except UNREADABLE:
                created = 0.0  # damaged, which whoever opens it is told
            self._created[directory.name] = created
        return self._created[directory.name]

    def _claim_id(self, name: str) -> tuple[str, Path]:
        """Make an id that is free, as 20261123-230159-identity, and the folder to write its run in.

        Several processes may do so at once: who makes the folder has the id.

        Raises:
            OSError: The disk is full or cannot be written.
        """
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for count in itertools.count(1):
            run_id = f"{stamp}-{slug}" + (f"-{count}" if count > 1 else "")
            partial_dir = self.root_dir / f".{run_id}.part"
            try:
                partial_dir.mkdir()
            except FileExistsError:
                continue
            if not (self.root_dir / run_id).exists():
                return run_id, partial_dir
            partial_dir.rmdir()
        raise AssertionError("there is always a free id")


def _not_written(error: OSError) -> WorkbenchError:
    return WorkbenchError(
        f"The run could not be written to disk: {error.strerror or error}.",
        "Free some space and press Start again.",
    )


def open_run(directory: Path) -> Run:
    """Read a run directory written by ``RunStore.create``."""
    known = {item.name for item in fields(Run)}
    details = {k: v for k, v in read_json(directory / "run.json").items() if k in known}
    label = read_json(directory / LABEL) if (directory / LABEL).exists() else {}
    text = (directory / "config.yaml").read_text(encoding="utf-8")
    config = yaml.load(text, Loader=_SafeLoader)  # noqa: S506 - it is a safe one
    return Run(
        id=directory.name,
        directory=directory,
        config=TrainingConfig.model_validate(config),
        data=_read_data_reference(directory / "data.json"),
        **(details | label | {"tags": tuple(label.get("tags", ()))}),
    )


def sibling(run: Run, run_id: str) -> Run:
    """Return a run of the same workspace.

    Raises:
        WorkbenchError: It was deleted.
    """
    if run_id == run.id:
        return run
    try:
        return open_run(run.directory.parent / run_id)
    except OSError as error:
        raise WorkbenchError(f"The run {run_id} is gone.", "Choose another one.") from error


def _read_data_reference(path: Path) -> DataReference:
    record = read_json(path)
    if "parts" not in record:  # written before runs could have several datasets
        names = ("id", "name", "path", "sha256", "row_count")
        record["parts"] = [{name: record.pop(name) for name in names}]
    datasets_dir = path.parents[2] / "datasets"  # of the workspace
    single = {
        name: _read_part(record[name], datasets_dir) if record.get(name) else None
        for name in ("validation", "general", "general_check")
    }
    return DataReference(
        parts=tuple(_read_part(part, datasets_dir) for part in record["parts"]),
        **single,
        validation_share=record["validation_share"],
        seed=record["seed"],
    )


def _read_part(record: dict[str, Any], datasets_dir: Path) -> DataPart:
    """Return a dataset of a run; where the workspace was moved, it lies in the same place of the new one."""
    written = Path(record["path"])
    moved = datasets_dir / record["id"] / written.name
    if not written.is_file() and moved.is_file():
        record = record | {"path": str(moved)}
    return DataPart(**record)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON in one step."""
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value
