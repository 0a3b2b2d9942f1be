"""The same run from the command line, or as YAML: what the page shows for copying."""

from __future__ import annotations

import shlex
from typing import Any

import yaml

from workbench.config import chosen_settings
from workbench.plan import Plan


def as_yaml(plan: Plan) -> str:
    """Return the settings that differ from the defaults, as ``--config`` reads them."""
    chosen = chosen_settings(plan.config, plan.reasons)
    named = {"model": plan.config.model, "method": plan.config.method}
    return yaml.safe_dump(named | chosen, sort_keys=False, allow_unicode=True)


def as_command(plan: Plan, data: Any) -> str:
    """Return the command that starts the same run.

    Args:
        plan: What to do.
        data: The ``DataChoice``; datasets go by their ids, under which this workspace keeps them as they were read.
    """
    chosen = chosen_settings(plan.config, plan.reasons)
    words = ["workbench", "train"]
    for info, weight in data.parts:
        words += ["--data", info.id if weight == 1 else f"{info.id}:{weight:g}"]
    if data.validation:
        words += ["--validation", data.validation.id]
    for option in ("model", "method"):
        if option in chosen:
            words += [f"--{option}", str(chosen.pop(option))]
    if chosen:
        words += ["--set", *(f"{name}={value}" for name, value in chosen.items())]
    return shlex.join(words)
