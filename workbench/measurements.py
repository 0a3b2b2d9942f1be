"""What a test drive measured, kept for every later plan with the same settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.config import TrainingConfig
from workbench.files import write_text_atomically
from workbench.settings import ensure_dir

# Settings that change neither memory nor speed.
WITHOUT_WEIGHT = (
    "epochs",
    "learning_rate",
    "lr_scheduler",
    "warmup_ratio",
    "max_steps",
    "weight_decay",
    "max_grad_norm",
    "eval_steps",
    "save_steps",
    "seed",
    "lora_alpha",
    "validation_share",
    "checkpoints_kept",
    "final_model",
    "early_stopping",
    "early_stopping_gain",
    "watched_rows",
    "watched_questions",
    "evaluate_after",
    "best_by",
    "report_to",
)
# To be raised when models are loaded or computed in another way: what was measured before says nothing then.
TRAINER_GENERATION = 3


@dataclass(frozen=True)
class Measurement:
    """Two real steps on the longest examples.

    Attributes:
        tokens_per_second: Real tokens, in training.
        peak_memory_bytes: Growth of the process's memory from before the model was loaded; on a graphics
            card, what was allocated at most.
        loading_seconds: Until the first step, without starting the process and reading the data.
        device: Where it computed.
        precision: In which number format.
    """

    tokens_per_second: float
    peak_memory_bytes: int
    loading_seconds: float
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "bf16"]


@dataclass(frozen=True)
class ProbeFailure:
    """Why a test drive failed, and what to do."""

    message: str
    hint: str


def write_outcome(directory: Path, outcome: Measurement | ProbeFailure) -> None:
    """Write ``probe.json``."""
    write_text_atomically(directory / "probe.json", json.dumps(asdict(outcome)))


def read_outcome(directory: Path) -> Measurement | ProbeFailure | None:
    """Read ``probe.json``; ``None`` when the process ended without a word."""
    path = directory / "probe.json"
    if not path.exists():
        return None
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return ProbeFailure(**record) if "message" in record else Measurement(**record)


class MeasurementStore:
    """The measurements of one workspace, on this computer.

    Args:
        directory: Where they lie.
        machine: What the computer is, in words; those of another one are not found.
    """

    def __init__(self, directory: Path, machine: str) -> None:
        self._directory, self._machine = directory, machine

    def find(self, config: TrainingConfig, longest_tokens: int) -> Measurement | None:
        """Return the measurement with the same model, method and settings, if there is one."""
        path = self._path(config, longest_tokens)
        if not path.exists():
            return None
        return Measurement(**json.loads(path.read_text(encoding="utf-8")))

    def keep(self, config: TrainingConfig, longest_tokens: int, measurement: Measurement) -> None:
        """Remember a measurement."""
        ensure_dir(self._directory)
        write_text_atomically(
            self._path(config, longest_tokens), json.dumps(asdict(measurement), indent=2)
        )

    def _path(self, config: TrainingConfig, longest_tokens: int) -> Path:
        key = [TRAINER_GENERATION, self._machine, longest_tokens, _settings_that_count(config)]
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self._directory / f"{digest[:24]}.json"


def _settings_that_count(config: TrainingConfig) -> Sequence[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in config.model_dump().items()
        if name not in WITHOUT_WEIGHT and (name in ("model", "method") or config.uses(name))
    ]
