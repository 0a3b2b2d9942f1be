"""The model card: a README.md that says what a model is and where it comes from. Pure.

Its beginning is what the Hugging Face Hub reads:
https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from workbench.config import TrainingConfig
from workbench.export.request import Kind
from workbench.export.usage import language
from workbench.models.sources import ModelSource
from workbench.presets import methods
from workbench.runs.record import Record
from workbench.runs.store import DataPart, Run
from workbench.words import describe_duration

# The names that the hub knows: https://huggingface.co/docs/hub/repositories-licenses
LICENCES = {
    "Apache-2.0": {"license": "apache-2.0"},
    "MIT": {"license": "mit"},
    "Gemma": {"license": "gemma"},
    "Llama 3.1 Community": {"license": "llama3.1"},
    "Llama 3.2 Community": {"license": "llama3.2"},
    "Qwen Research": {"license": "other", "license_name": "qwen-research"},
}
# What loads it, as the hub filters models; what is not here is read by transformers.
LIBRARIES: dict[Kind, str] = {"adapter": "peft", "gguf": "gguf", "ollama": "gguf"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~$])")


def base_name(source: ModelSource) -> str:
    """Return what the base model is called elsewhere; for a folder its name, never its path."""
    if source.entry:
        return source.entry.repository
    return source.location if source.is_downloaded else source.label


def model_card(
    run: Run,
    record: Record,
    source: ModelSource,
    kind: Kind,
    usage: Sequence[str],
    notes: Sequence[str] = (),
    measured: str = "",
) -> str:
    """Write the card.

    Args:
        run: The run.
        record: What it said.
        source: The base model.
        kind: What the card lies beside.
        usage: How to use that; empty for a card alone.
        notes: What else the reader should know.
        measured: What an evaluation found, in Markdown.
    """
    parts = [
        _front_matter(run, source, kind),
        f"# {plain(run.name)}\n",
        _summary(run, source),
        _usage(kind, usage),
        *(f"{note}\n" for note in notes),
        "## Base model and licence\n",
        _licence(source),
        "## Data\n",
        _data(run),
        "## What was measured\n",
        measured,
        _metrics(record),
        "## Settings\n",
        f"```yaml\n{settings_text(run.config, source)}```\n",
    ]
    return "\n".join(part for part in parts if part)


def plain(text: str) -> str:
    """Return a text on one line that Markdown shows as it is."""
    shown = "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
    return _MARKDOWN.sub(r"\\\1", shown)


def stopped_words(record: Record) -> str:
    """Say at which step a person stopped the run; empty where it came to its end."""
    is_stopped = record.finished is not None and record.finished.outcome == "stopped"
    if not is_stopped or record.start is None:
        return ""
    step = record.steps[-1].step if record.steps else 0
    return f"The training was stopped at step {step:,} of {record.start.total_steps:,}."


def settings_text(config: TrainingConfig, source: ModelSource) -> str:
    """Return every setting as YAML; a model in a folder by its name, not its path."""
    settings = config.model_dump() | {"model": public_model(source)}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def public_model(source: ModelSource) -> str:
    """Return what the workbench calls the base model, without a path."""
    return source.label if source.kind == "folder" else source.id


def _front_matter(run: Run, source: ModelSource, kind: Kind) -> str:
    adapter = kind == "adapter"
    matter: dict[str, Any] = {}
    if source.entry or source.kind == "hub":
        matter["base_model"] = base_name(source)
        matter["base_model_relation"] = "adapter" if adapter else "finetune"
    matter |= _hub_licence(source)
    matter |= {
        "library_name": LIBRARIES.get(kind, "transformers"),
        "pipeline_tag": "text-generation",
        "tags": ["finetune-workbench", "conversational", run.config.method],
    }
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---\n"


def _hub_licence(source: ModelSource) -> dict[str, str]:
    return dict(LICENCES.get(source.entry.licence, {})) if source.entry else {}


def _summary(run: Run, source: ModelSource) -> str:
    label = methods()[run.config.method].label
    return (
        f"{plain(base_name(source))}, tuned with {plain(label)} on {_names(run.data.parts)} in the "
        "Finetune Workbench.\n"
    )


def _names(parts: Sequence[DataPart]) -> str:
    return " and ".join(plain(part.name) for part in parts)


def _usage(kind: Kind, usage: Sequence[str]) -> str:
    if not usage:
        return ""
    return "\n".join(["## How to use it\n", f"```{language(kind)}", *usage, "```\n"])


def _licence(source: ModelSource) -> str:
    name = plain(base_name(source))
    if source.entry is None:
        return f"The base model is {name}. Its licence is not known here: look it up where it comes from.\n"
    return (
        f"The base model is {name}, licence: {plain(source.entry.licence)}. What is made from it stays under "
        "its terms. The licence of your data is for you to add.\n"
    )


def _data(run: Run) -> str:
    lines = ["| dataset | used for | rows | weight | SHA-256 |", "|---|---|---|---|---|"]
    lines += [_data_line(part, "learning") for part in run.data.parts]
    if run.data.validation:
        lines.append(_data_line(run.data.validation, "checking"))
    if run.data.general:
        lines.append(_data_line(run.data.general, "keeping general skills"))
    split = ""
    if not run.data.validation and run.data.validation_share:
        split = f"\n{run.data.validation_share:.0%} of the rows were held back to check with (seed {run.data.seed}).\n"
    return "\n".join(lines) + "\n" + split


def _data_line(part: DataPart, use: str) -> str:
    return (
        f"| {plain(part.name)} | {use} | {part.row_count:,} | {part.weight:g} | `{part.sha256}` |"
    )


def _metrics(record: Record) -> str:
    rows = _measured(record)
    if not rows:
        return "Nothing yet.\n"
    lines = ["| what | at the start | at the end |", "|---|---|---|"]
    lines += [f"| {what} | {_number(first)} | {_number(last)} |" for what, first, last in rows]
    start = record.start
    if start:
        how = f"{start.precision}, {start.kernels}" if start.kernels else start.precision
        seconds = record.elapsed_seconds(record.last.time if record.last else 0)
        lines.append(
            f"\n{len(record.steps):,} steps on {start.train_rows:,} rows in {describe_duration(seconds)} on "
            f"{plain(start.device)} ({plain(how)}); {start.trained_parameters:,} of "
            f"{start.parameters:,} weights were trained."
        )
    return "\n".join(lines) + "\n"


def _measured(record: Record) -> list[tuple[str, float | None, float | None]]:
    found = []
    series: tuple[tuple[str, Sequence[Any]], ...] = (
        ("loss on the training rows", record.steps),
        ("loss on the rows held back", record.evaluations),
        ("loss on general questions (what it rises was forgotten)", record.general),
    )
    for words, events in series:
        if events:
            found.append((words, events[0].loss, events[-1].loss))
    if record.evaluations:
        first, last = record.evaluations[0], record.evaluations[-1]
        found.append(
            ("share of tokens foreseen, rows held back", first.token_accuracy, last.token_accuracy)
        )
    return found


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.3f}"
