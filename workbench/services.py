"""What the page and the command line share: the stores of one workspace, and starting a run."""

from __future__ import annotations

import functools
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.chat import ChatProcess, Stop
from workbench.compatibility import find_conflicts
from workbench.config import TrainingConfig, build_config
from workbench.data.store import GENERAL_CHECK, DatasetInfo, DatasetStore
from workbench.errors import WorkbenchError
from workbench.evaluation import process as evaluating
from workbench.facts import GENERAL_ROWS, DataFacts, base_answers_name
from workbench.hardware import describe_machine, look
from workbench.measurements import Measurement, MeasurementStore
from workbench.models.manner import completes_only
from workbench.models.sources import ModelSource, find_model, source_of
from workbench.models.store import ModelStore
from workbench.models.tokens import (
    read_lengths,
    read_shared_start,
    read_supervised_lengths,
    token_cache_path,
)
from workbench.plan import Plan, make_plan
from workbench.presets import methods
from workbench.probing import test_drive
from workbench.remedies import Remedy, find_remedies, find_shortage
from workbench.runs.store import DataPart, DataReference, Run, RunStore
from workbench.runs.supervisor import Supervisor
from workbench.settings import Settings
from workbench.starting_points import StartingPoints
from workbench.this_machine import machine_for
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
LOOK_SECONDS = 1.0
DUE_SECONDS = 30.0  # between two looks for runs to evaluate


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
            allow_folder: The model among the values may be a local folder (command line only).

        Raises:
            WorkbenchError: A preset, setting or model that does not exist or does not fit.
        """
        config = build_config(self.starting_points.settings(recipe) if recipe else {}, values)
        typed = "model" in values
        source = find_model(config.model, allow_folder=allow_folder) if typed else source_of(config)
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

    def plan(self, config: TrainingConfig, data: DataChoice) -> Plan:
        """Work out what will happen.

        Raises:
            WorkbenchError: Settings that cannot work together, or not with this model.
        """
        source = source_of(config)
        facts = self.models.facts(source)
        if conflicts := find_conflicts(config, facts):
            raise WorkbenchError(" ".join(conflicts))
        make = functools.partial(
            make_plan,
            config,
            [self._data_facts(info, weight, source) for info, weight in data.parts],
            facts,
            methods()[config.method],
            machine_for(config, look(self.settings.home_dir), self.runs, self.supervisor),
            separate_validation_rows=data.validation.row_count if data.validation else None,
            download_bytes=facts.missing_bytes or 0,
            asked_rows=self._rows_to_ask(config, source),
            remark=completes_only(source, self.models.directory(source)),
        )
        plan = make()
        measurement = self.measurements.find(plan.config, plan.work.hardest_tokens)
        return make(measurement=measurement) if measurement else plan

    def ensure_known(self, source: ModelSource, token: str = "") -> None:
        """Ask its hub about a model that is neither here nor known, so that a plan can say what cannot work.

        Args:
            source: Which model.
            token: Access token for a gated model.

        Raises:
            WorkbenchError: There is no such model, or no network to ask or to download it.
        """
        if source.is_downloaded and not self.models.facts(source).architecture:
            self.models.look_up(source, token.strip())

    def start(
        self,
        plan: Plan,
        data: DataChoice,
        name: str,
        *,
        force: bool = False,
        force_hint: str = "",
        parent: Run | None = None,
        continues: bool = False,
        token: str = "",
    ) -> Run:
        """Create a run for a plan; it begins at once, or waits in line while another one trains.

        Args:
            plan: What to do.
            data: What to learn from.
            name: What to call it; empty for the data's name.
            force: Start although memory or disk are short.
            force_hint: How the person does that, as a sentence of the refusal.
            parent: The run it was made from.
            continues: It begins with what its parent learned.
            token: Access token for a gated model that is not here.

        Raises:
            WorkbenchError: Memory or disk cannot hold it.
        """
        if not force and (shortage := find_shortage(plan, force_hint)):
            raise shortage
        self.free_the_computer()
        parent_id = parent.id if parent else None
        run = self.create_run(plan, data, name, parent=parent_id, continues=continues)
        self.supervisor.start(run, self._secrets(run, token))
        self._fetch_ahead(run, token)
        return run

    def resume(self, run: Run, token: str = "") -> None:
        """Let a run that ended early go on from its last checkpoint.

        Args:
            run: Which one.
            token: Access token for a gated model that is not here.

        Raises:
            WorkbenchError: It cannot go on.
        """
        self.free_the_computer()
        self.supervisor.resume(run, self._secrets(run, token))
        self._fetch_ahead(run, token)

    def _secrets(self, run: Run, token: str) -> dict[str, str]:
        """Return the environment that a run's process needs to download its model."""
        source = source_of(run.config)
        return {} if self.models.is_here(source) else source.token_environment(token)

    def _fetch_ahead(self, run: Run, token: str) -> None:
        """Download the model of a run that waits in line now, where that needs a token: nobody keeps it until then."""
        source = source_of(run.config)
        is_coming = (progress := self.models.progress(source)) and progress.is_active
        if token and run.waiting_path.exists() and not is_coming:
            self.models.fetch_in_background(source, token)

    def look_after_runs(self) -> None:
        """From now on, start the next run in line when the present one has ended, in the background.

        After the last one, and now and then while none trains or waits, runs that are due are evaluated: also
        when the computer was switched off before, or that gave way to something else.
        """
        threading.Thread(target=self._keep_advancing, daemon=True).start()

    def _keep_advancing(self) -> None:
        next_look = 0.0
        while True:
            try:
                self.supervisor.advance(self.free_the_computer)
                if not self.supervisor.is_idle():
                    next_look = 0.0
                elif time.monotonic() >= next_look:
                    next_look = time.monotonic() + DUE_SECONDS
                    self.supervisor.evaluate_due()
            except Exception:  # noqa: BLE001 - a full disk, say; it may be over at the next look
                print("The line of runs could not be looked after:", file=sys.stderr)
                traceback.print_exc()
            time.sleep(LOOK_SECONDS)

    def close_helpers(self) -> None:
        """End what only helps the page, so that whatever works next has its memory."""
        self.chat.close()
        self.tokenizer.close()

    def free_the_computer(self) -> None:
        """Give training or an export the whole computer: evaluations stop, too; what was answered is kept."""
        self.close_helpers()
        evaluating.stop_and_wait(evaluating.running(self.runs.all()))

    def test_drive(self, config: TrainingConfig, data: DataChoice) -> Measurement:
        """Do two real steps on the longest examples in a process of its own; later plans use the result.

        Raises:
            WorkbenchError: A run is training, the model is not here yet, or the test drive failed.
        """
        self.supervisor.check_free()
        source = source_of(config)
        if not self.models.is_here(source):
            raise WorkbenchError(
                f"{source.label} is not on this computer yet, so there is nothing to drive.",
                "It is downloaded when training starts.",
            )
        for info, _ in data.parts:
            self.count_tokens(info, source)
        with self.supervisor.test_drive(self.free_the_computer):
            self.free_the_computer()
            plan = self.plan(config, data)
            probes = RunStore(self.settings, self.settings.home_dir / "probes")
            run = self.create_run(plan, data, "test drive", probes)
            measurement = test_drive(run, self.settings)
        self.measurements.keep(plan.config, plan.work.hardest_tokens, measurement)
        return measurement

    def remedies(self, config: TrainingConfig, data: DataChoice) -> list[Remedy]:
        """Return what would make a run fit into memory, the least harmful first."""
        return find_remedies(config, lambda changed: self.plan(changed, data))

    def create_run(
        self,
        plan: Plan,
        data: DataChoice,
        name: str,
        store: RunStore | None = None,
        **details: Any,
    ) -> Run:
        """Write the run directory of a plan, among the runs or in another store.

        ``details`` are other fields of ``Run``.

        Raises:
            WorkbenchError: The disk is full.
        """
        config = plan.config
        reference = DataReference(
            parts=tuple(self.part(info, weight) for info, weight in data.parts),
            validation=self.part(data.validation, 1.0) if data.validation else None,
            validation_share=config.validation_share or 0.0,
            seed=config.seed,
            general=self.part(self.datasets.usable(config.general_data), 1.0)
            if config.keep_general
            else None,
            general_check=self.part(self.datasets.info(GENERAL_CHECK), 1.0),
        )
        peak_bytes = plan.peak_memory_bytes if plan.counts_memory_closely else None
        promised = {
            "planned_step_seconds": plan.step_seconds,
            "planned_memory_bytes": peak_bytes,
            "hands_memory_back": plan.hands_memory_back,
        }
        return (store or self.runs).create(
            config, reference, name or data.name, plan.reasons, plan.seconds, **promised | details
        )

    @contextmanager
    def chat_with(self, run: Run, stop: Stop | None = None) -> Iterator[ChatProcess]:
        """Load a run's models to chat with inside of the block, unless a run is training and needs the computer.

        Raises:
            WorkbenchError: A run is training, the models cannot be loaded, or it was stopped.
        """
        self.supervisor.check_free()
        with self.chat.using(run, stop):
            yield self.chat

    def count_tokens(self, info: DatasetInfo, source: ModelSource) -> None:
        """Count a dataset's tokens once, unless the model is not here; may take a minute.

        Raises:
            WorkbenchError: The model's chat template refuses a row.
        """
        if self.models.is_here(source) and self.token_lengths(info, source) is None:
            self.tokenizer.count(self.models.directory(source), self.datasets.path(info.id))

    def part(self, info: DatasetInfo, weight: float = 1.0) -> DataPart:
        """Return a dataset as a run or an evaluation refers to it."""
        path, report = str(self.datasets.path(info.id)), self.datasets.report(info.id)
        left_out = report.rows - report.usable_rows
        return DataPart(info.id, info.name, path, info.sha256, info.row_count, weight, left_out)

    def token_lengths(self, info: DatasetInfo, source: ModelSource) -> NDArray[np.int64] | None:
        """Return the length of every row in tokens, or ``None`` when not counted yet."""
        cache = self._token_cache(info, source)
        return read_lengths(cache) if cache else None

    def _token_cache(self, info: DatasetInfo, source: ModelSource) -> Path | None:
        if not self.models.is_here(source):
            return None
        return token_cache_path(self.datasets.path(info.id), self.models.directory(source))

    def _rows_to_ask(self, config: TrainingConfig, source: ModelSource) -> int:
        """Return how many general examples this model was never asked about."""
        if not config.keep_general:
            return 0
        info = self.datasets.usable(config.general_data)
        name = base_answers_name(self.models.directory(source), "*")
        known = any(self.datasets.path(info.id).parent.glob(name))
        return 0 if known else min(info.row_count, GENERAL_ROWS)

    def _data_facts(self, info: DatasetInfo, weight: float, source: ModelSource) -> DataFacts:
        cache = self._token_cache(info, source)
        if cache is None:
            return DataFacts(info.row_count, info.mean_characters, weight)
        counted = read_lengths(cache), read_supervised_lengths(cache), read_shared_start(cache)
        return DataFacts(info.row_count, info.mean_characters, weight, *counted)
