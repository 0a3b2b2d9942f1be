"""The verbs that train, or say what training would do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from workbench.cli_runs import wait_for
from workbench.config import TrainingConfig, choices
from workbench.data.store import SAMPLES
from workbench.equivalent import as_command, as_yaml
from workbench.errors import WorkbenchError
from workbench.models.sources import source_of
from workbench.plan import Plan
from workbench.presets import recipes
from workbench.services import DataChoice, Services
from workbench.words import describe_bytes, describe_duration

FORCE_HINT = "--force starts it anyway."


def add_training_verbs(verbs: Any) -> None:
    """Describe the commands to the parser."""
    train = verbs.add_parser("train", help="train a model and wait for the end")
    _add_run_options(train)
    train.add_argument("--name", default="", help="what to call the run")
    train.add_argument("--detach", action="store_true", help="return at once, train on")
    train.add_argument(
        "--force", action="store_true", help="start although memory or disk are short"
    )
    train.set_defaults(run_command=run_train)

    plan = verbs.add_parser("plan", help="say what a run would do and need, without starting it")
    _add_run_options(plan)
    plan.add_argument(
        "--probe", action="store_true", help="do two real steps first and measure them"
    )
    plan.set_defaults(run_command=run_plan)


def _add_run_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data",
        required=True,
        action="append",
        metavar="FILE[:WEIGHT]",
        help=f"a data file, a sample ({', '.join(SAMPLES)}), or the id of a dataset in the workspace; may be given "
        "several times. A weight of 2 shows its rows twice an epoch, 0.5 half of them",
    )
    verb.add_argument(
        "--validation",
        metavar="FILE",
        help="check with the rows of this file, sample or dataset; else some rows of the data are held back",
    )
    verb.add_argument(
        "--preset",
        metavar="NAME",
        help=f"a starting point: {', '.join(recipes())}; mine:NAME for your own, run:ID for a past run's",
    )
    verb.add_argument(
        "--model",
        metavar="ID",
        help="a model's id, owner/name, modelscope:owner/name, local:name, or a folder",
    )
    verb.add_argument("--method", metavar="NAME", help=", ".join(choices("method")))
    verb.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="any setting"
    )
    verb.add_argument(
        "--config", type=Path, metavar="FILE", help="settings as YAML, for example of an old run"
    )
    verb.add_argument("--json", action="store_true", help="print one JSON document")


def run_train(services: Services, options: argparse.Namespace) -> int:
    """Start a run and, unless detached, wait for its end."""
    config, data = _config_for(services, options), _data_for(services, options)
    services.ensure_known(source_of(config))
    plan = _plan_counted(services, config, data)
    if not options.json:
        print(plan_line(plan))
        for info, _ in data.parts:
            for problem in services.datasets.report(info.id).problems:
                print(f"Note on {info.name}: {problem.message}")
    parent = services.starting_points.run(options.preset or "")
    run = services.start(
        plan, data, options.name, force=options.force, force_hint=FORCE_HINT, parent=parent
    )
    return wait_for(services, run, options)


def run_plan(services: Services, options: argparse.Namespace) -> int:
    """Print what a run would do; with ``--probe`` after two real steps."""
    config, data = _config_for(services, options), _data_for(services, options)
    try:
        services.ensure_known(source_of(config))
    except WorkbenchError as error:
        print(f"Note: {error}", file=sys.stderr)  # the plan does without
    plan = _plan_counted(services, config, data)
    if options.probe:
        services.test_drive(config, data)
        plan = services.plan(config, data)
    remedies = []
    if plan.fit == "will not fit":
        remedies = services.remedies(config, data)
    if options.json:
        document = plan_document(plan, data)
        document["remedies"] = [asdict(remedy) for remedy in remedies]
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    print(plan_line(plan))
    print(resources_line(plan))
    for line in [*plan.warnings, *(f"It would fit: {remedy.label}." for remedy in remedies)]:
        print(line)
    print(f"\n{as_command(plan, data)}")
    return 0


def plan_document(plan: Plan, data: DataChoice) -> dict[str, Any]:
    """Return everything a plan says, ready for JSON."""
    return {
        "steps": plan.total_steps,
        "examples": plan.work.train_rows,
        "validation_examples": plan.work.validation_rows,
        "tokens": plan.work.total_tokens,
        "supervised_tokens": plan.work.supervised_tokens,
        "seconds": plan.seconds,
        "seconds_per_step": plan.step_seconds,
        "seconds_source": plan.seconds_source,
        "evaluated_rows": plan.evaluated_rows,
        "evaluation_seconds": plan.evaluation_seconds,
        "peak_memory_bytes": plan.peak_memory_bytes,
        "free_memory_bytes": plan.machine.free_memory_bytes,
        "fit": plan.fit,
        "disk_bytes": plan.disk_bytes,
        "free_disk_bytes": plan.machine.free_disk_bytes,
        "device": plan.machine.device,
        "precision": plan.precision[0],
        "precision_reason": plan.precision[1],
        "measured": asdict(plan.measurement) if plan.measurement else None,
        "warnings": list(plan.warnings),
        "config": plan.config.model_dump(),
        "reasons": plan.reasons,
        "command": as_command(plan, data),
        "yaml": as_yaml(plan),
    }


def plan_line(plan: Plan) -> str:
    """Say in one line what a run does and how long it takes."""
    time_needed = (
        f"about {describe_duration(plan.seconds)} ({plan.seconds_source})"
        if plan.seconds
        else f"how long is {plan.seconds_source}"
    )
    return (
        f"{plan.work.train_rows:,} rows to train on, {plan.work.validation_rows:,} held back, "
        f"{plan.total_steps:,} steps; {time_needed}."
    )


def resources_line(plan: Plan) -> str:
    """Say in one line what a run needs."""
    if plan.peak_memory_bytes is None or plan.disk_bytes is None:
        return "What it needs is not known before the model is here."
    how = "measured" if plan.measurement else "estimated"
    return (
        f"About {describe_bytes(plan.peak_memory_bytes)} of memory ({how}; {plan.fit}) and "
        f"{describe_bytes(plan.disk_bytes)} of disk."
    )


def _plan_counted(services: Services, config: TrainingConfig, data: DataChoice) -> Plan:
    """Count tokens where the model is here, and plan with them."""
    source = source_of(config)
    services.plan(config, data)  # what cannot work is told before it counts
    for info, _ in data.parts:
        services.count_tokens(info, source)
    services.tokenizer.close()
    return services.plan(config, data)


def _data_for(services: Services, options: argparse.Namespace) -> DataChoice:
    validation_id = _dataset_id(services, options.validation) if options.validation else None
    return services.choose_data(_weighted_datasets(services, options.data), validation_id)


def _config_for(services: Services, options: argparse.Namespace) -> TrainingConfig:
    values = {**_settings_of_file(options.config), **_settings_from(options)}
    return services.configure(options.preset, values, allow_folder=True)


def _settings_of_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"The settings in {path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise WorkbenchError(f"{path} has no settings.", "Write name: value on each line.")
    return values


def _weighted_datasets(services: Services, texts: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in texts:
        name, weight = _name_and_weight(text)
        dataset_id = _dataset_id(services, name)
        if dataset_id in weights:
            raise WorkbenchError(
                f"{name} is given twice.", "Give it once, with a weight: FILE:2 shows it twice."
            )
        weights[dataset_id] = weight
    return weights


def _name_and_weight(text: str) -> tuple[str, float]:
    """Read ``FILE`` or ``FILE:WEIGHT``; a file that has a colon in its name wins."""
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).is_file():
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        if Path(name).is_file() or name in SAMPLES:
            raise WorkbenchError(
                f"The weight {weight!r} of {name} is no number.",
                f"Write {name}:2 or {name}:0.5, for example.",
            ) from None
        return text, 1.0  # C:\data.json, say, and whether it exists is seen later


def _dataset_id(services: Services, text: str) -> str:
    """Return the id of a sample, of a file that is added, or of what the workspace has; a file wins."""
    if text in SAMPLES or (not Path(text).exists() and services.datasets.has(text)):
        return text
    return services.datasets.add(Path(text), Path(text).name).id


def _settings_from(options: argparse.Namespace) -> dict[str, str]:
    """Collect ``--set``, ``--model`` and ``--method``; the last two win."""
    values: dict[str, str] = {}
    for pair in options.set:
        name, equals, value = pair.partition("=")
        if not equals:
            raise WorkbenchError(
                f"--set {pair!r} has no =.", "Write --set name=value, for example --set epochs=2."
            )
        values[name.strip()] = value.strip()
    given = {"model": options.model, "method": options.method}
    return values | {name: value for name, value in given.items() if value is not None}
