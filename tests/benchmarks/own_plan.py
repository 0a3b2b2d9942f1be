"""What the workbench's plan chooses on this computer, for examples that are tokenized already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workbench.compute import choose_compute
from workbench.config import TrainingConfig
from workbench.facts import DataFacts, Machine
from workbench.hardware import look
from workbench.models.facts import ModelFacts
from workbench.models.rendering import IGNORED, same_start
from workbench.plan import Plan, make_plan
from workbench.presets import methods


def plan_examples(
    config: TrainingConfig, examples: Sequence[dict[str, Any]], model: ModelFacts, home_dir: Path
) -> Plan:
    """Return the plan of a run on these examples, with every setting chosen that is automatic."""
    rows = [example["input_ids"] for example in examples]
    supervised = [sum(label != IGNORED for label in e["labels"]) for e in examples]
    data = DataFacts(
        row_count=len(rows),
        mean_characters=0.0,
        token_lengths=np.array([len(row) for row in rows]),
        supervised_lengths=np.array(supervised),
        shared_start=same_start(rows),
    )
    machine = this_machine(config, home_dir)
    return make_plan(config, [data], model, methods()[config.method], machine)


def this_machine(config: TrainingConfig, home_dir: Path) -> Machine:
    """Return this computer as the plan sees it, in the precision that a run would measure."""
    hardware = look(home_dir)
    gpu = hardware.gpus[0] if hardware.gpus else None
    return Machine(
        cpu_cores=hardware.cpu_cores,
        device="cuda" if gpu else "cpu",
        free_memory_bytes=gpu.free_bytes if gpu else hardware.free_memory_bytes,
        free_disk_bytes=hardware.free_disk_bytes,
        precision=choose_compute(config.precision).precision,
    )
