"""What the page and the command line share: the stores of one workspace, and starting a run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.chat import ChatProcess
from workbench.compatibility import find_conflicts
from workbench.config import TrainingConfig, build_config
from workbench.data.conversations import read_conversations
from workbench.data.split import split_rows
from workbench.data.store import GENERAL_CHECK, DatasetInfo, DatasetStore
from workbench.errors import WorkbenchError
from workbench.facts import DataFacts, Machine
from workbench.hardware import describe_machine, look
from workbench.measurements import Measurement, MeasurementStore
from workbench.models.sources import ModelSource, find_model
from workbench.models.store import ModelStore
from workbench.models.tokens import read_lengths, read_supervised_lengths, token_cache_path
from workbench.plan import Plan, make_plan
from workbench.presets import methods
from workbench.probing import test_drive
from workbench.remedies import Remedy, find_remedies, find_shortage
from workbench.runs.store import DataPart, DataReference, Run, RunStore
from workbench.runs.supervisor import Supervisor
from workbench.settings import Settings
from workbench.starting_points import StartingPoints
from workbench.tokenizing import TokenizerProcess


@dataclass(frozen=True)
class DataChoice:
    """What a run learns from: datasets with their weights, and perhaps one only to check with.

    A weight says how often an epoch sees each row: 1 once, 2 twice, 0.5 half of the rows.
    """

    parts: tuple[tuple[DatasetInfo, float], ...]
    validation: DatasetInfo | None = None

    @property
    def name(self) -> str:
        """The names of the datasets without their endings."""
        return " and ".join(info.name.rsplit(".", 1)[0] for info, _ in self.parts)


LOWEST_WEIGHT, HIGHEST_WEIGHT = 0.01, 100
NEEDS_DATA = ("queued", "starting", "running", "stopping")


@dataclass(frozen=True)
class Services:
    """Everything that remembers something, for one workspace. Safe to share between threads."""

    settings: Settings
    datasets: DatasetStore
    models: ModelStore
    runs: RunStore
    supervisor: Supervisor
    chat: ChatProcess
    tokenizer: TokenizerProcess
    measurements: MeasurementStore
    starting_points: StartingPoints

    @classmethod
    def for_workspace(cls, settings: Settings) -> Services:
        """Wire the services of one workspace."""
        runs = RunStore(settings)
        return cls(
            settings=settings,
            datasets=DatasetStore(settings),
            models=ModelStore(settings),
            runs=runs,
            supervisor=Supervisor(settings, runs),
            chat=ChatProcess(settings),
            tokenizer=TokenizerProcess(settings),
            starting_points=StartingPoints(settings.home_dir / "presets", runs),
            measurements=MeasurementStore(settings.home_dir / "measurements", describe_machine()),
        )

    def configure(
        self, recipe: str | None, values: Mapping[str, Any], *, allow_folder: bool = False
    ) -> TrainingConfig:
        """Merge a preset and what the person set, and check all of it.

        Args:
            recipe: Id of a starting point, or ``None`` for the defaults.
            values: Settings by name; they win over the preset.
            allow_folder: The model may be a local folder (command line only).

        Raises:
            WorkbenchError: A preset, setting or model that does not exist or does not fit.
        """
        config = build_config(self.starting_points.settings(recipe) if recipe else {}, values)
        source = find_model(config.model, allow_folder=allow_folder)
        self.models.check(source)
        return config.model_copy(update={"model": source.id})

    def choose_data(
        self, weights: Mapping[str, float], validation_id: str | None = None
    ) -> DataChoice:
        """Look up datasets to train on.

        Args:
            weights: The weight of each dataset by id; at least one.
            validation_id: The dataset to check with, if it is one of its own.

        Raises:
            WorkbenchError: A dataset is gone or not ready, or a weight is out of range.
        """
        for dataset_id, weight in weights.items():
            if not LOWEST_WEIGHT <= weight <= HIGHEST_WEIGHT:
                raise WorkbenchError(
                    f"The weight of {self.datasets.info(dataset_id).name} cannot be {weight:g}.",
                    f"It must be a number from {LOWEST_WEIGHT} to {HIGHEST_WEIGHT}.",
                )
        if validation_id in weights:
            raise WorkbenchError(
                "The rows to check with are among those to learn from.",
                "Choose another dataset to check with, or none: then some rows are held back.",
            )
        return DataChoice(
            tuple((self.datasets.usable(i), weight) for i, weight in weights.items()),
            self.datasets.usable(validation_id) if validation_id else None,
        )

    def plan(self, config: TrainingConfig, data: DataChoice, *, allow_folder: bool = False) -> Plan:
        """Work out what will happen.

        Raises:
            WorkbenchError: Settings that cannot work together, or not with this model.
        """
        source = find_model(config.model, allow_folder=allow_folder)
        facts = self.models.facts(source)
        if conflicts := find_conflicts(config, facts):
            raise WorkbenchError(" ".join(conflicts))
        make = functools.partial(
            make_plan,
            config,
            [self._data_facts(info, weight, source) for info, weight in data.parts],
            facts,
            methods()[config.method],
            self._machine(config),
            separate_validation_rows=data.validation.row_count if data.validation else None,
            download_bytes=0 if self.models.is_here(source) else 2 * (facts.parameters or 0),
        )
        plan = make()
        measurement = self.measurements.find(plan.config, plan.work.hardest_tokens)
        return make(measurement=measurement) if measurement else plan

    def start(self, plan: Plan, data: DataChoice, name: str, *, force: bool = False) -> Run:
        """Create a run for a plan and start its process.

        Args:
            plan: What to do.
            data: What to learn from.
            name: What to call it; empty for the data's name.
            force: Start although memory or disk are short.

        Raises:
            WorkbenchError: Another run is training, or memory or disk cannot hold it.
        """
        self.supervisor.check_free()
        if not force and (shortage := find_shortage(plan)):
            raise shortage
        run = self.create_run(plan, data, name)
        self.supervisor.start(run, hand_memory_back=plan.hands_memory_back)
        return run

    def test_drive(
        self, config: TrainingConfig, data: DataChoice, *, allow_folder: bool = False
    ) -> Measurement:
        """Do two real steps on the longest examples in a process of its own; later plans use the result.

        Raises:
            WorkbenchError: A run is training, the model is not here yet, or the test drive failed.
        """
        self.supervisor.check_free()
        source = find_model(config.model, allow_folder=allow_folder)
        if not self.models.is_here(source):
            raise WorkbenchError(
                f"{source.label} is not on this computer yet, so there is nothing to drive.",
                "It is downloaded when training starts.",
            )
        for info, _ in data.parts:
            self.count_tokens(info, source)
        self.chat.close()
        self.tokenizer.close()
        plan = self.plan(config, data, allow_folder=allow_folder)
        probes = RunStore(self.settings, self.settings.home_dir / "probes")
        run = self.create_run(plan, data, "test drive", probes)
        measurement = test_drive(run, self.settings, hand_memory_back=plan.hands_memory_back)
        self.measurements.keep(plan.config, plan.work.hardest_tokens, measurement)
        return measurement

    def remedies(
        self, config: TrainingConfig, data: DataChoice, *, allow_folder: bool = False
    ) -> list[Remedy]:
        """Return what would make a run fit into memory, the least harmful first."""
        return find_remedies(
            config, lambda changed: self.plan(changed, data, allow_folder=allow_folder)
        )

    def create_run(
        self, plan: Plan, data: DataChoice, name: str, store: RunStore | None = None
    ) -> Run:
        """Write the run directory of a plan, among the runs or in another store.

        Raises:
            WorkbenchError: The disk is full.
        """
        config = plan.config
        reference = DataReference(
            parts=tuple(self._part(info, weight) for info, weight in data.parts),
            validation=self._part(data.validation, 1.0) if data.validation else None,
            validation_share=config.validation_share or 0.0,
            seed=config.seed,
            general=self._part(self.datasets.usable(config.general_data), 1.0)
            if config.keep_general
            else None,
            general_check=self._part(self.datasets.info(GENERAL_CHECK), 1.0),
        )
        return (store or self.runs).create(
            config,
            reference,
            name or data.name,
            plan.reasons,
            plan.seconds,
            plan.step_seconds,
            plan.peak_memory_bytes if plan.counts_memory_closely else None,
        )

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a dataset, unless a run needs it.

        Raises:
            WorkbenchError: It is a sample, not there, or a run is about to read it.
        """
        for run_id in self.runs.ids():
            run = self.runs.get(run_id)
            if (
                dataset_id in run.data.dataset_ids
                and (snapshot := self.supervisor.snapshot(run)).state in NEEDS_DATA
            ):
                raise WorkbenchError(
                    f"The run {run.name} needs this dataset ({snapshot.state}).",
                    "Delete it when the run has ended.",
                )
        self.datasets.delete(dataset_id)

    def cancel_download(self, source: ModelSource) -> None:
        """End a model's download in the background; a later one fetches the rest.

        Raises:
            WorkbenchError: It is a run that downloads it.
        """
        active = self.supervisor.active_run()
        if active and _source_of(active).slug == source.slug:
            raise WorkbenchError(f'The run "{active.name}" needs it.', "Stop the run instead.")
        self.models.cancel(source)

    def delete_model(self, source: ModelSource) -> None:
        """Remove a model from this disk, unless a run or a download needs it.

        Raises:
            WorkbenchError: It is in use, or not here.
        """
        active = self.supervisor.active_run()
        if active and _source_of(active).slug == source.slug:
            raise WorkbenchError(
                f'"{active.name}" is training it.', "Delete it when that has ended."
            )
        self.chat.close()
        self.tokenizer.close()
        self.models.delete(source)

    def open_chat(self, run: Run) -> None:
        """Load a run's models to chat with, unless a run is training and needs the computer.

        Raises:
            WorkbenchError: A run is training, or the models cannot be loaded.
        """
        self.supervisor.check_free()
        self.chat.open(run)

    def example_questions(self, run: Run, count: int) -> list[str]:
        """Return questions from a run's data, validation rows first: the model has not seen those.

        Only single-turn rows are taken; a question in the middle of a conversation means little alone.
        """
        part, share = (
            (run.data.validation, 0.0)
            if run.data.validation
            else (run.data.parts[0], run.data.validation_share)
        )
        path = Path(part.path)
        if not path.is_file() or path.suffix != ".jsonl":  # deleted since, or of an older version
            return []
        conversations = read_conversations(path)
        train, validation = split_rows(conversations, share, run.data.seed)
        first_turns = (conversations[index]["messages"] for index in [*validation, *train])
        questions = [messages[0]["content"] for messages in first_turns if len(messages) == 2]
        return questions[:count]

    def count_tokens(self, info: DatasetInfo, source: ModelSource) -> None:
        """Count a dataset's tokens once, unless the model is not here; may take a minute.

        Raises:
            WorkbenchError: The model's chat template refuses a row.
        """
        if self.models.is_here(source) and self.token_lengths(info, source) is None:
            self.tokenizer.count(self.models.directory(source), self.datasets.path(info.id))

    def token_lengths(self, info: DatasetInfo, source: ModelSource) -> NDArray[np.int64] | None:
        """Return the length of every row in tokens, or ``None`` when not counted yet."""
        cache = self._token_cache(info, source)
        return read_lengths(cache) if cache else None

    def _token_cache(self, info: DatasetInfo, source: ModelSource) -> Path | None:
        if not self.models.is_here(source):
            return None
        return token_cache_path(self.datasets.path(info.id), self.models.directory(source))

    def _part(self, info: DatasetInfo, weight: float) -> DataPart:
        path = str(self.datasets.path(info.id))
        return DataPart(info.id, info.name, path, info.sha256, info.row_count, weight)

    def _data_facts(self, info: DatasetInfo, weight: float, source: ModelSource) -> DataFacts:
        cache = self._token_cache(info, source)
        counted = (read_lengths(cache), read_supervised_lengths(cache)) if cache else (None, None)
        return DataFacts(info.row_count, info.mean_characters, weight, *counted)

    def _machine(self, config: TrainingConfig) -> Machine:
        hardware = look(self.settings.home_dir)
        gpu = hardware.gpus[0] if hardware.gpus else None
        return Machine(
            cpu_cores=hardware.cpu_cores,
            device="cuda" if gpu else "cpu",
            device_name=gpu.name if gpu else f"this computer ({hardware.cpu_cores} CPU cores)",
            free_memory_bytes=gpu.free_bytes if gpu else hardware.free_memory_bytes,
            free_disk_bytes=hardware.free_disk_bytes,
            measured_tokens_per_second=self._measured_speed(config),
        )

    def _measured_speed(self, config: TrainingConfig) -> float | None:
        """Return tokens per second of the newest finished run with this model and method here."""
        for run_id in self.runs.ids():
            run = self.runs.get(run_id)
            if (run.config.model, run.config.method) == (config.model, config.method):
                snapshot = self.supervisor.snapshot(run)
                if snapshot.state == "finished":
                    return snapshot.tokens_per_second
        return None


def _source_of(run: Run) -> ModelSource:
    return find_model(run.config.model, allow_folder=True)
