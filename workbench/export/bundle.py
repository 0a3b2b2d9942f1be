"""One zip that has all that is needed to do a run again, and nothing of this computer. No torch.

What was said on the Playground stays here: it is no part of doing the run again.

::

    README.md          how to do it again
    config.yaml        every setting, the seed included
    data.json          which datasets, their hashes and weights, and the split
    environment.json   versions
    events.jsonl       what the run said: the curves
    run.json           name, reasons of automatic settings
    data/              the conversations, if they are wanted
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.data.problems import mask_secrets
from workbench.errors import WorkbenchError
from workbench.export.adapter import COPY_BYTES
from workbench.export.card import public_model, settings_text
from workbench.models.sources import ModelSource
from workbench.runs.store import DataPart, Run

# Access tokens of the Hugging Face Hub, ModelScope and OpenAI-compatible services, should one be in a message.
_TOKENS = re.compile(r"\b(hf_|ms-|sk-)[A-Za-z0-9_-]{20,}")


class Scrubber:
    """Takes what only this computer knows out of texts.

    Args:
        paths: What to write instead of each path.
    """

    def __init__(self, paths: Mapping[Path, str]) -> None:
        # The longest first: a folder before the one it lies in.
        self._paths = sorted(
            ((str(path), word) for path, word in paths.items()), key=lambda pair: -len(pair[0])
        )

    @classmethod
    def of(cls, run: Run, source: ModelSource, workspace: Path) -> Scrubber:
        """Return one that knows the folders of a run."""
        paths = {
            run.directory: "RUN",
            workspace: "WORKSPACE",
            workspace.resolve(): "WORKSPACE",
            Path.home(): "HOME",
        }
        if source.kind == "folder":
            paths[Path(source.location)] = public_model(source)
        return cls(paths)

    def text(self, text: str) -> str:
        """Return a text without paths and tokens."""
        for path, word in self._paths:
            if len(path) > 1:
                text = text.replace(path, word)
        return mask_secrets(_TOKENS.sub(r"\1…", text))

    def value(self, value: Any) -> Any:
        """Return a JSON value whose texts are scrubbed."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value


def data_names(run: Run) -> dict[str, str]:
    """Return where each dataset lies in the bundle, by id."""
    names: dict[str, str] = {}
    for part in run.data.datasets:
        stem = re.sub(r"[^A-Za-z0-9]+", "-", part.name.rsplit(".", 1)[0]).strip("-")[:40]
        names.setdefault(part.id, f"data/{len(names) + 1}-{stem or 'data'}.jsonl")
    return names


def train_words(run: Run) -> tuple[str, ...]:
    """Return what follows ``workbench train`` to do the run again from an unpacked bundle."""
    names = data_names(run)
    words = ["--config", "config.yaml"]
    for part in run.data.parts:
        name = names[part.id]
        words += ["--data", name if part.weight == 1 else f"{name}:{part.weight:g}"]
    if run.data.validation:
        words += ["--validation", names[run.data.validation.id]]
    return tuple(words)


def check_data(run: Run) -> None:
    """Refuse a bundle with data that is not there any more.

    Raises:
        WorkbenchError: Which dataset was deleted.
    """
    for part in run.data.datasets:
        path = Path(part.path)
        if not path.is_file() or path.suffix != ".jsonl":
            raise WorkbenchError(
                f"The rows of {part.name} are not on this computer any more.",
                "Leave the conversations out: the bundle then has their hash.",
            )


def write_bundle(
    path: Path,
    run: Run,
    source: ModelSource,
    scrubber: Scrubber,
    readme: str,
    with_data: bool,
    advance: Callable[[int], None],
) -> None:
    """Write the zip.

    Args:
        path: The file.
        run: The run.
        source: Its base model.
        scrubber: Takes paths and tokens out.
        readme: Text of README.md.
        with_data: The conversations, too.
        advance: Told how many bytes were written; may raise to end it.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in _texts(run, source, scrubber, readme, with_data).items():
            archive.writestr(name, text)
            advance(len(text))
        with archive.open("events.jsonl", "w", force_zip64=True) as target:
            for line in _events(run, scrubber):
                target.write(line)
                advance(len(line))
        for part in _distinct(run) if with_data else []:
            with Path(part.path).open("rb") as reader:
                with archive.open(data_names(run)[part.id], "w", force_zip64=True) as target:
                    while chunk := reader.read(COPY_BYTES):
                        target.write(chunk)
                        advance(len(chunk))


def _texts(
    run: Run, source: ModelSource, scrubber: Scrubber, readme: str, with_data: bool
) -> dict[str, str]:
    names = data_names(run) if with_data else {}
    record = {
        "name": run.name,
        "created": run.created,
        "reasons": run.reasons,
        "parent": run.parent,
        "continues": run.continues,
    }
    texts = {
        "README.md": readme,
        "config.yaml": settings_text(run.config, source),
        "data.json": _json(scrubber.value(_data(run, names))),
        "run.json": _json(scrubber.value(record)),
    }
    environment_path = run.directory / "environment.json"
    if environment_path.is_file():
        text = environment_path.read_text(encoding="utf-8")
        texts["environment.json"] = scrubber.text(text)
    return texts


def _data(run: Run, names: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``data.json`` says, with the places in the bundle instead of those on this computer."""

    def public(part: dict[str, Any] | None) -> dict[str, Any] | None:
        return part | {"path": names.get(part["id"], "")} if part else None

    record = asdict(run.data)
    parts = [public(part) for part in record["parts"]]
    single = {name: public(record[name]) for name in ("validation", "general", "general_check")}
    return record | single | {"parts": parts}


def _events(run: Run, scrubber: Scrubber) -> Iterator[bytes]:
    """Yield the lines of ``events.jsonl``, those that are damaged left out."""
    if not run.events_path.is_file():
        return
    with run.events_path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            yield (json.dumps(scrubber.value(event), ensure_ascii=False) + "\n").encode()


def _distinct(run: Run) -> list[DataPart]:
    return list({part.id: part for part in run.data.datasets}.values())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
