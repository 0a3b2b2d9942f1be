"""What to export, from where, and whether it can work at all. No torch."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from workbench.errors import WorkbenchError
from workbench.export.adapter import adapter_files
from workbench.models.facts import ModelFacts, Shape
from workbench.presets import methods
from workbench.runs.checkpoints import model_of_step, models_by_step
from workbench.runs.store import Run, read_json, write_json
from workbench.runs.strength import AS_TRAINED, chosen_strength
from workbench.words import describe_bytes

Kind = Literal["adapter", "merged", "gguf", "ollama", "bundle", "card"]
KINDS: tuple[Kind, ...] = get_args(Kind)
GgufType = Literal["F16", "BF16", "Q8_0", "Q5_0", "Q4_0"]
GGUF_TYPES: tuple[GgufType, ...] = get_args(GgufType)
# The small types keep 32 weights in 34, 22 and 18 bytes (ggml-common.h, block_q8_0, block_q5_0, block_q4_0).
GGUF_BYTES_PER_WEIGHT = {"F16": 2.0, "BF16": 2.0, "Q8_0": 34 / 32, "Q5_0": 22 / 32, "Q4_0": 18 / 32}
# How embeddings and head are kept where the rest is coarse.
GGUF_EMBEDDING_TYPES: dict[GgufType, GgufType] = {"Q5_0": "Q8_0", "Q4_0": "Q8_0"}
KIND_WORDS: dict[Kind, str] = {
    "adapter": "what was learned, to be used with the base model (a folder, or a .zip)",
    "merged": "a whole model, merged, as safetensors (a folder)",
    "gguf": "a whole model for llama.cpp and LM Studio (a .gguf file)",
    "ollama": "a whole model for Ollama (a folder with a Modelfile)",
    "bundle": "everything that is needed to do the run again (a .zip)",
    "card": "a model card (a .md file)",
}
NEEDS_MODEL: tuple[Kind, ...] = ("merged", "gguf", "ollama")
# What can be uploaded. Nothing that has rows of the data in it is among these.
HUB_KINDS: tuple[Kind, ...] = ("adapter", "merged", "gguf")
# What a path must end in where the export is one file.
ENDINGS: dict[Kind, str] = {"gguf": ".gguf", "bundle": ".zip", "card": ".md"}
SPARE_BYTES = 50_000_000  # tokenizer, logs, and what other programs write meanwhile


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        kind: What becomes of the run.
        out: The path of the result, absolute; nothing is there yet.
        partial: Where it is written until it is complete; beside ``out``.
        checkpoint: Take that of this step instead of the saved model.
        gguf_type: How a GGUF keeps its weights.
        with_data: A bundle has the conversations, not only their hashes.
        repository: ``owner/name`` on the Hugging Face Hub; it is uploaded then, and nothing comes to be at ``out``.
        private: Only its owner sees it there.
        strength: How much of the adapter is in it; 1 is as trained.
    """

    kind: Kind
    out: str
    partial: str
    checkpoint: int | None = None
    gguf_type: GgufType = "F16"
    with_data: bool = False
    repository: str = ""
    private: bool = True
    strength: float = AS_TRAINED

    @property
    def name(self) -> str:
        """What a person calls the result: its file, its folder or its repository."""
        return self.repository or self.out_path.name

    @property
    def out_path(self) -> Path:
        return Path(self.out)

    @property
    def partial_path(self) -> Path:
        return Path(self.partial)

    @property
    def is_zip(self) -> bool:
        """Whether the result is a zip file."""
        return self.out_path.suffix.lower() == ".zip"

    def source_dir(self, run: Run) -> Path:
        """Return the folder of what the run learned.

        Raises:
            WorkbenchError: It is not there.
        """
        if self.checkpoint is not None:
            return model_of_step(run, self.checkpoint)
        if run.model_dir.is_dir():
            return run.model_dir
        steps = list(models_by_step(run))
        raise WorkbenchError(
            f'"{run.name}" has no finished model to export.',
            f"Resume it, or export a checkpoint: --checkpoint {steps[-1]}."
            if steps
            else "Choose a run that has finished.",
        )


def sums_path(out_path: Path) -> Path:
    """Return where the SHA-256 sums of a result of one file lie; a folder has them inside."""
    return out_path.with_name(out_path.name + ".sha256")


def check_request(request: ExportRequest, run: Run) -> None:
    """Refuse what cannot work, before anything is written.

    Raises:
        WorkbenchError: What is wrong, and what to do instead.
    """
    if request.repository:
        _check_uploadable(request)
    else:
        _check_path(request)
    request.source_dir(run)
    if request.kind == "bundle" and run.continues:
        raise WorkbenchError(
            f'"{run.name}" continues another run, so its settings and data alone make another one.',
            "Export the adapter or the merged model.",
        )
    if request.kind in ("bundle", "card"):
        return
    if chosen_strength(run, request.strength) == 0:
        raise WorkbenchError(
            "At strength 0 this is the model before training, so there is nothing to export.",
            "Keep another strength on the Playground, or give --strength.",
        )
    method = methods()[run.config.method]
    if request.kind == "adapter" and method.saves == "model":
        raise WorkbenchError(
            f"{method.label} changes the whole model, so there is no adapter.",
            "Export the merged model.",
        )
    if request.kind in NEEDS_MODEL and not method.mergeable:
        raise WorkbenchError(
            f"What {method.label} learns stands beside the model's weights and cannot be merged into them.",
            "Export the adapter.",
        )


def check_room(path: Path, needed_bytes: float) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        path: Where it will be written; its folder exists.
        needed_bytes: How large it will be.

    Raises:
        WorkbenchError: There is not enough room.
    """
    free_bytes = shutil.disk_usage(path.parent).free
    if free_bytes < needed_bytes + SPARE_BYTES:
        raise WorkbenchError(
            f"The disk of {path.parent} has {describe_bytes(free_bytes)} free; the export needs about "
            f"{describe_bytes(needed_bytes + SPARE_BYTES)}.",
            "Free some space, or choose a path on another disk.",
        )


def write_request(directory: Path, request: ExportRequest) -> Path:
    """Write a request into a folder, and return the file."""
    path = directory / "request.json"
    write_json(path, asdict(request))
    return path


def read_request(path: Path) -> ExportRequest:
    """Read a request.

    Raises:
        ValueError: It is of a kind that this version does not know.
    """
    request = ExportRequest(**read_json(path))
    if request.kind not in KINDS:
        raise ValueError(f"{request.kind} is no kind of export")
    return request


def base_bytes(base_dir: Path, parameters: int | None) -> int:
    """Return how large the base model's weights are: of its files, or 2 bytes a weight before the download."""
    found = sum(path.stat().st_size for path in base_dir.glob("*.safetensors"))
    return found or 2 * (parameters or 0)


def needed_bytes(request: ExportRequest, run: Run, base_dir: Path, facts: ModelFacts) -> float:
    """Return how large an export will be, about.

    Args:
        request: What.
        run: The run.
        base_dir: The base model's folder; it need not be there yet.
        facts: What is known of the base model's size.
    """
    weights_bytes = base_bytes(base_dir, facts.parameters)
    if request.kind == "merged":
        return weights_bytes
    if request.kind in ("gguf", "ollama"):
        return _gguf_bytes(request.gguf_type, facts.parameters or weights_bytes / 2, facts)
    if request.kind == "adapter":
        return sum(_file_bytes(path) for path in adapter_files(request.source_dir(run)))
    if request.kind == "bundle":  # less, once it is packed
        rows = [Path(part.path) for part in run.data.datasets] if request.with_data else []
        return sum(_file_bytes(path) for path in (run.events_path, *rows))
    return 0


def _gguf_bytes(gguf_type: GgufType, weights: float, facts: ModelFacts) -> float:
    shape = Shape.of(facts.architecture)
    embeddings = shape.embedding_weights if shape else 0
    coarse = GGUF_BYTES_PER_WEIGHT[gguf_type]
    fine = GGUF_BYTES_PER_WEIGHT[GGUF_EMBEDDING_TYPES.get(gguf_type, gguf_type)]
    return (weights - embeddings) * coarse + embeddings * fine


def _check_uploadable(request: ExportRequest) -> None:
    if request.kind not in HUB_KINDS:
        raise WorkbenchError(
            f"{request.kind} is not uploaded to the Hugging Face Hub.",
            f"One of these is: {', '.join(HUB_KINDS)}.",
        )


def _check_path(request: ExportRequest) -> None:
    path, ending = request.out_path, ENDINGS.get(request.kind)
    for taken in (path, sums_path(path)):
        if taken.exists() or taken.is_symlink():
            raise WorkbenchError(
                f"{taken} is there already.", "Choose another path, or move it away first."
            )
    if not path.parent.is_dir():
        raise WorkbenchError(
            f"There is no folder {path.parent}.", "Make it first, or choose another path."
        )
    if ending and path.suffix.lower() != ending:
        raise WorkbenchError(
            f"{path.name} does not end in {ending}.",
            f"This export is one file; call it {path.name}{ending}, for example.",
        )
    is_file = path.suffix.lower() in (".zip", ".gguf", ".md", ".safetensors")
    if not ending and is_file and not (request.kind == "adapter" and request.is_zip):
        raise WorkbenchError(
            f"This export is a folder, and {path.name} looks like a file.",
            "Choose a name without an ending.",
        )


def _file_bytes(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
