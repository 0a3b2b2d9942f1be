"""What the page and the command line share: the stores of one workspace, and starting a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.chat import ChatProcess
from workbench.config import TrainingConfig, build_config
from workbench.data.conversations import read_conversations
from workbench.data.split import split_indices
from workbench.data.store import DatasetInfo, DatasetStore
from workbench.errors import WorkbenchError
from workbench.hardware import look
from workbench.models.catalogue import find_model
from workbench.models.store import ModelStore, check_model_folder
from workbench.plan import DataFacts, Machine, Plan, make_plan
from workbench.presets import find_recipe, methods
from workbench.runs.store import DataReference, Run, RunStore
from workbench.runs.supervisor import Supervisor
from workbench.settings import Settings

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
        )

    def configure(
        self, recipe: str | None, values: Mapping[str, Any], *, allow_folder: bool = False
    ) -> TrainingConfig:
        """Merge a preset and what the person set, and check all of it.

        Args:
            recipe: Name of a preset, or ``None`` for the defaults.
            values: Settings by name; they win over the preset.
            allow_folder: The model may be a local folder (command line only).

        Raises:
            WorkbenchError: A preset, setting or model that does not exist or does not fit.
        """
        config = build_config(find_recipe(recipe).config if recipe else {}, values)
        source = find_model(config.model, allow_folder=allow_folder)
        if source.kind == "folder":
            check_model_folder(self.models.directory(source))
        return config.model_copy(update={"model": source.id})

    def plan(
        self, config: TrainingConfig, data: DatasetInfo, *, allow_folder: bool = False
    ) -> Plan:
        """Work out what will happen."""
        hardware = look(self.settings.home_dir)
        return make_plan(
            config,
            DataFacts(data.row_count, data.mean_characters),
            self.models.facts(find_model(config.model, allow_folder=allow_folder)),
            methods()[config.method],
            Machine(hardware.cpu_cores, bool(hardware.gpus), self._measured_speed(config)),
        )

    def start(self, plan: Plan, data: DatasetInfo, name: str) -> Run:
        """Create a run for a plan and start its process.

        Raises:
            WorkbenchError: Another run is training, or the disk is full.
        """
        self.supervisor.check_free()
        config = plan.config
        reference = DataReference(
            id=data.id,
            name=data.name,
            path=str(self.datasets.path(data.id)),
            sha256=data.sha256,
            row_count=data.row_count,
            validation_share=config.validation_share or 0.0,
            seed=config.seed,
        )
        run = self.runs.create(
            config, reference, name or _default_name(data), plan.reasons, plan.seconds
        )
        self.supervisor.start(run)
        return run

    def delete_dataset(self, dataset_id: str) -> None:
        """Remove a dataset, unless a run needs it.

        Raises:
            WorkbenchError: It is a sample, not there, or a run is about to read it.
        """
        for run_id in self.runs.ids():
            run = self.runs.get(run_id)
            uses_it = run.data.id == dataset_id
            if uses_it and (snapshot := self.supervisor.snapshot(run)).state in NEEDS_DATA:
                raise WorkbenchError(
                    f"The run {run.name} needs this dataset ({snapshot.state}).",
                    "Delete it when the run has ended.",
                )
        self.datasets.delete(dataset_id)

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
        path = Path(run.data.path)
        if not path.is_file() or path.suffix != ".jsonl":  # deleted since, or of an older version
            return []
        conversations = read_conversations(path)
        train, validation = split_indices(
            len(conversations), run.data.validation_share, run.data.seed
        )
        first_turns = (conversations[index]["messages"] for index in [*validation, *train])
        questions = [messages[0]["content"] for messages in first_turns if len(messages) == 2]
        return questions[:count]

    def _measured_speed(self, config: TrainingConfig) -> float | None:
        """Return tokens per second of the newest finished run with this model and method here."""
        for run_id in self.runs.ids():
            run = self.runs.get(run_id)
            if (run.config.model, run.config.method) == (config.model, config.method):
                snapshot = self.supervisor.snapshot(run)
                if snapshot.state == "finished":
                    return snapshot.tokens_per_second
        return None


def _default_name(data: DatasetInfo) -> str:
    return data.name.rsplit(".", 1)[0]
