"""Copy an adapter out of a run: the files others need, and nothing that only this computer understands."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from workbench.runs.strength import AS_TRAINED

COPY_BYTES = 1 << 20
CONFIG = "adapter_config.json"
# Not what going on with the training needs (optimizer.pt, …), and not PEFT's own empty README.
WANTED = (
    "adapter_model*.safetensors",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab*",
    "merges.txt",
)


def adapter_files(directory: Path) -> list[Path]:
    """Return the files that are copied as they are."""
    return sorted({path for pattern in WANTED for path in directory.glob(pattern)})


def public_config(text: str, base: str, strength: float) -> str:
    """Return an adapter's configuration as others need it.

    Args:
        text: The configuration as PEFT wrote it.
        base: Name of the base model, which stands there instead of a folder of this computer.
        strength: How much of the adapter is to count. What a layer adds is proportional to its alpha, in LoRA
            (over the rank), rsLoRA (over its square root) and AdaLoRA alike, so that is multiplied by it.
    """
    config = json.loads(text) | {"base_model_name_or_path": base, "revision": None}
    if strength != AS_TRAINED:
        config["lora_alpha"] *= strength
        config["alpha_pattern"] = {
            name: alpha * strength for name, alpha in config.get("alpha_pattern", {}).items()
        }
    return json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def rank_for_vllm(config_path: Path) -> int:
    """Return the rank of a LoRA that vLLM can serve; 0 for what it refuses (``vllm.lora.peft_helper``)."""
    config = json.loads(config_path.read_text(encoding="utf-8"))
    is_plain = not config.get("use_dora") and not config.get("modules_to_save")
    if config.get("peft_type") != "LORA" or not is_plain:
        return 0
    rank: int = max([config["r"], *config.get("rank_pattern", {}).values()])
    return rank


def write_folder(
    folder: Path, files: Iterable[Path], texts: dict[str, str], advance: Callable[[int], None]
) -> None:
    """Write an adapter as a folder.

    Args:
        folder: It is made.
        files: Copied as they are.
        texts: Files by name.
        advance: Told how many bytes were written; may raise to end it.
    """
    folder.mkdir()
    for path in files:
        copy(path, folder / path.name, advance)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def write_zip(
    path: Path, files: Iterable[Path], texts: dict[str, str], advance: Callable[[int], None]
) -> None:
    """Write an adapter as a zip file, straight from where it lies; arguments as of ``write_folder``."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in files:
            with file.open("rb") as source, archive.open(_entry(file), "w") as target:
                while chunk := source.read(COPY_BYTES):
                    target.write(chunk)
                    advance(len(chunk))
        for name, text in texts.items():
            archive.writestr(name, text)


def copy(source: Path, target: Path, advance: Callable[[int], None]) -> None:
    """Copy a file's bytes; only the reader's own rights apply to the copy."""
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(COPY_BYTES):
            writer.write(chunk)
            advance(len(chunk))


def _entry(file: Path) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(file.name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.file_size = file.stat().st_size  # from 2 GB on, zip files are written differently
    entry.external_attr = 0o644 << 16
    return entry
