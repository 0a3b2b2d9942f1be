"""What to evaluate, and where its answers lie: beside the run, one folder per data.

::

    runs/<id>/evaluations/questions-<…>.jsonl  a file of questions without answers
                          <key>/request.json   what was asked for last
                                facts.json     device, precision, token limit: written when the answers begin
                                base.jsonl     answers and losses of the base model, one row a line
                                tuned-<…>.jsonl checkpoint-40-<…>.jsonl   likewise, by the weights
                                tuned-<…>-strength-0.5.jsonl              and by the strength, unless it is 1
                                progress.jsonl log.txt
                                stop           there when the person asked to stop

The key is a hash of the data and of the token limit, not of the models or of how many rows: what a model has
answered once stays, also for another checkpoint or for more rows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.runs.checkpoints import checkpoint_instead, model_of_step
from workbench.runs.store import DataPart, Run, read_json, sibling, write_json
from workbench.runs.strength import AS_TRAINED
from workbench.settings import ensure_dir

BASE, TUNED = "base", "tuned"
QUESTIONS = "questions"  # the id of data that has no expected answers
# A model that has learned when to end needs little more than the longest expected answer; one that has
# not shows it by then.
ROOM, FEWEST_ANSWER_TOKENS, MOST_ANSWER_TOKENS = 1.5, 16, 256


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        base: Ask the base model.
        tuned: Ask what the run learned.
        checkpoint: Take that of this step instead of the saved model.
        data: Rows of another dataset; ``None`` for those the run held back.
        limit: At most so many rows, chosen by the run's seed; ``None`` for all.
        answer_tokens: Longest answer; ``None`` to tell from the expected answers.
        compared: Ids of runs that answer the same rows: those of the first of them, without what any of them
            learned from. Empty where the run stands alone.
        strength: How much of the adapter is on; 1 is as trained.
    """

    base: bool = True
    tuned: bool = True
    checkpoint: int | None = None
    data: DataPart | None = None
    limit: int | None = None
    answer_tokens: int | None = None
    compared: tuple[str, ...] = ()
    strength: float = AS_TRAINED

    @property
    def is_only_questions(self) -> bool:
        """Nothing is expected of the answers, so there is no loss and no figure."""
        return self.data is not None and self.data.id == QUESTIONS

    def rows_run(self, run: Run) -> Run:
        """Return the run that says which rows are asked: the first of those compared, else this one.

        Raises:
            WorkbenchError: It was deleted.
        """
        return sibling(run, self.compared[0]) if self.compared else run

    def asked_parts(self, run: Run) -> list[DataPart]:
        """Return the datasets whose rows are asked, all of them or those held back."""
        if self.data:
            return [self.data]
        data = self.rows_run(run).data
        return [data.validation] if data.validation else list(data.parts)

    def left_out_rows(self, run: Run) -> int:
        """Return how many rows of a file that is asked as a whole have no usable question and answer."""
        data = self.data or self.rows_run(run).data.validation
        return data.left_out_rows if data else 0

    @property
    def tuned_name(self) -> str:
        """What the tuned model's file is called."""
        return TUNED if self.checkpoint is None else f"checkpoint-{self.checkpoint}"

    def directory(self, run: Run) -> Path:
        """Return the folder of this data's answers."""
        parts = [self.data] if self.data else run.data.datasets
        asked: dict[str, Any] = {
            "data": [part.sha256 for part in parts],
            "held_back": None if self.data else [run.data.validation_share, run.data.seed],
            "general": run.data.general_check.sha256 if run.data.general_check else None,
            "answer_tokens": self.answer_tokens,
        }
        others = None if self.data else held_back_key(self.rows_run(run))
        if others and others != held_back_key(run):  # else its answers count for both
            asked |= {"data": None, "held_back": others}
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return run.directory / "evaluations" / digest[:12]

    def answer_paths(self, run: Run) -> dict[str, Path]:
        """Return the files of answers by ``base`` and ``tuned``, those that are asked for."""
        directory, paths = self.directory(run), {}
        if self.base:
            paths[BASE] = directory / "base.jsonl"
        if self.tuned:
            name = f"{self.tuned_name}-{_weights_digest(self.tuned_dir(run))}"
            if self.strength != AS_TRAINED:
                name += f"-strength-{self.strength!r}"
            paths[TUNED] = directory / f"{name}.jsonl"
        return paths

    def tuned_dir(self, run: Run) -> Path:
        """Return the folder of the tuned model.

        Raises:
            WorkbenchError: It is not there.
        """
        if self.checkpoint is None:
            if not run.model_dir.is_dir():
                step = checkpoint_instead(run)
                raise WorkbenchError(
                    f'"{run.name}" has no model to evaluate.',
                    "Choose a run that has finished."
                    if step is None
                    else f"Its checkpoints can be evaluated: --checkpoint {step}.",
                )
            return run.model_dir
        return model_of_step(run, self.checkpoint)


def held_back_key(run: Run) -> list[Any]:
    """Return what decides which rows a run held back, and their order."""
    data = run.data
    if data.validation:
        return [data.validation.sha256]
    return [*(part.sha256 for part in data.parts), data.validation_share, data.seed]


def longest_answer_tokens(longest_expected_tokens: float) -> int:
    """Return how long an answer may be, from the longest one that is expected."""
    wanted = round(ROOM * longest_expected_tokens)
    return min(MOST_ANSWER_TOKENS, max(FEWEST_ANSWER_TOKENS, wanted))


def write_request(run: Run, request: EvaluationRequest) -> Path:
    """Write a request into its folder, and return the file."""
    path = ensure_dir(request.directory(run)) / "request.json"
    write_json(path, asdict(request))
    return path


def read_request(path: Path) -> EvaluationRequest:
    """Read a request."""
    record: dict[str, Any] = read_json(path)
    data = record.pop("data")
    record.pop("left_out_rows", None)  # older ones have it here
    record["compared"] = tuple(record.get("compared", ()))  # older ones do not have it
    return EvaluationRequest(**record, data=DataPart(**data) if data else None)


def _weights_digest(directory: Path) -> str:
    """Return what changes when a folder gets other weights: a run that goes on saves its model anew."""
    digest = hashlib.sha256()
    for path in sorted(directory.glob("*.safetensors")):
        state = path.stat()
        digest.update(f"{path.name} {state.st_size} {state.st_mtime_ns}".encode())
    return digest.hexdigest()[:8]
