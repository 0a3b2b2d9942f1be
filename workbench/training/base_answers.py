"""What the base model expects in general examples: worked out once, and kept beside them.

Of every position the likeliest tokens are kept, as a NumPy archive without pickles; its name has what they
depend on: the model's files, how it is loaded, and the examples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from workbench.facts import base_answers_name
from workbench.files import read_arrays, write_arrays_atomically
from workbench.models.rendering import TokenizedExample
from workbench.training.batches import MicroBatch

LIKELIEST = 64  # of the starter model's 49,152 tokens they have 96 % of the probability (measured)


@dataclass(frozen=True)
class BaseAnswer:
    """What the base model expects after every supervised position of one example.

    Attributes:
        log_probabilities: float32 (positions, ``LIKELIEST``), the highest ones.
        token_ids: int32 (positions, ``LIKELIEST``), whose they are.
    """

    log_probabilities: torch.Tensor
    token_ids: torch.Tensor


def base_answers(
    examples: Sequence[TokenizedExample],
    batches: Callable[[Sequence[TokenizedExample]], Iterable[MicroBatch]],
    logits: Callable[[MicroBatch], torch.Tensor],
) -> list[BaseAnswer]:
    """Ask the base model.

    Args:
        examples: The general examples.
        batches: Cuts examples into micro-batches.
        logits: Runs the base model: float (supervised positions, vocabulary).

    Returns:
        An answer for each example, in their order.
    """
    found: dict[int, BaseAnswer] = {}
    for batch in batches(examples):
        with torch.no_grad():
            expected = likeliest(logits(batch))
        counts = [example.supervised_tokens for example in batch.examples]
        parts = zip(*(part.split(counts) for part in expected), strict=True)
        for example, part in zip(batch.examples, parts, strict=True):
            found[id(example)] = BaseAnswer(*part)
    return [found[id(example)] for example in examples]


def likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log-probabilities of the likeliest tokens, float32, and their ids, int32."""
    count = min(LIKELIEST, logits.shape[-1])
    log_probabilities, token_ids = logits.float().log_softmax(dim=-1).topk(count, dim=-1)
    return log_probabilities.cpu(), token_ids.to(torch.int32).cpu()


def kept_answers(
    path: Path, examples: Sequence[TokenizedExample], ask: Callable[[], list[BaseAnswer]]
) -> list[BaseAnswer]:
    """Return the answers from a file of ``answers_path``, or ask for them and fill it."""
    counts = [example.supervised_tokens for example in examples]
    arrays = read_arrays(path, "log_probabilities", "token_ids")
    if arrays and len(arrays["token_ids"]) == sum(counts):
        parts = (torch.from_numpy(arrays[name]).split(counts) for name in arrays)
        return [BaseAnswer(*part) for part in zip(*parts, strict=True)]
    answers = ask()
    write_arrays_atomically(
        path,
        log_probabilities=np.concatenate([a.log_probabilities.numpy() for a in answers]),
        token_ids=np.concatenate([a.token_ids.numpy() for a in answers]),
    )
    return answers


def kept_loss(path: Path, ask: Callable[[], float]) -> float:
    """Return the base model's loss from a file of ``answers_path``, or work it out and fill it."""
    arrays = read_arrays(path, "loss")
    if arrays is None:
        arrays = {"loss": np.array(ask())}
        write_arrays_atomically(path, **arrays)
    return float(arrays["loss"])


def answers_path(
    conversations_path: Path, model_dir: Path, loaded_as: str, examples: Sequence[TokenizedExample]
) -> Path:
    """Return where answers are kept: beside the conversations, and gone with them.

    Args:
        conversations_path: The general examples' file.
        model_dir: The model's folder; size and time of its weights stand for what is in them.
        loaded_as: Precision and 4- or 8-bit form, which change the answers a little.
        examples: As they are read by this model.
    """
    digest = hashlib.sha256(f"{LIKELIEST} {loaded_as}".encode())
    for file in sorted(model_dir.glob("*.safetensors")):
        state = file.stat()
        digest.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    digest.update((model_dir / "config.json").read_bytes())
    for example in examples:
        digest.update(np.array([*example.input_ids, *example.labels], np.int64).tobytes())
    name = base_answers_name(model_dir, digest.hexdigest()[:16])
    return conversations_path.with_name(name)
