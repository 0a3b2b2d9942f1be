"""Exports that are a whole model: merge, write, read again, and compare before it is called done."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from workbench.asking.loading import load_to_ask
from workbench.child_progress import ProgressWriter
from workbench.compute import Compute, choose_compute
from workbench.errors import StopRequested, WorkbenchError
from workbench.export.checking import (
    Prompt,
    Said,
    choose_prompts,
    distance,
    same_answers,
    say,
)
from workbench.export.gguf_file import GgufText, check_architecture, weight_count, write_gguf
from workbench.export.gguf_sentencepiece import read_gguf, read_prompt
from workbench.export.gguf_tokenizer import GgufVocabulary
from workbench.export.merging import (
    asking_dtype,
    base_dtype,
    layer_count,
    load_adapter,
    merge,
    round_to,
)
from workbench.export.request import ExportRequest
from workbench.hardware import cpu_cores
from workbench.models.rendering import load_tokenizer, prompt_ids
from workbench.presets import methods
from workbench.runs.store import Run

SHARD_SIZE = "5GB"
# How far the logits may be from the adapter's, as a share of how much they vary. Rounding weights to bf16 (8 bits)
# moves them by about 1 % in our measurements, to fp16 (11 bits) by 0.1 %; a forgotten or doubled adapter by far more.
TOLERANCES = {torch.float32: 0.001, torch.float16: 0.01, torch.bfloat16: 0.05}
# With 8 bits what goes into a layer is rounded, too, which the merged model no longer does.
INT8_TOLERANCE = 0.15
# On the starter model Q8_0 was 2 % away, Q5_0 18 %, Q4_0 35 % (docs/export.md).
GGUF_TOLERANCES = {"F16": 0.01, "BF16": 0.05, "Q8_0": 0.1, "Q5_0": 0.3, "Q4_0": 0.5}
# Rounding may not be as large as what was learned.
LEARNED_SHARE = 0.5


@dataclass(frozen=True)
class Tuned:
    """The tuned model in memory, whole, every weight in its final format.

    Attributes:
        model: It.
        expected: What the run's own model says of the prompts, at the strength that is asked for.
        tolerance: How far the result may be from that.
        learned: How far the base model is from that; ``None`` for a method without an adapter.
    """

    model: Any
    expected: Said
    tolerance: float
    learned: float | None


class WholeExport:
    """One export of a whole model.

    Args:
        run: The run.
        request: What to export.
        base_dir: Folder of the base model.
        progress: Told what is done.
        stop_requested: Asked often.
    """

    def __init__(
        self,
        run: Run,
        request: ExportRequest,
        base_dir: Path,
        progress: ProgressWriter,
        stop_requested: Callable[[], bool],
    ) -> None:
        torch.set_num_threads(cpu_cores())
        self._run, self._request, self._base_dir = run, request, base_dir
        self._progress, self._stop_requested = progress, stop_requested
        self._compute = _exact(choose_compute(run.config.precision))
        self.tokenizer = load_tokenizer(base_dir)
        self._prompts: list[Prompt] = choose_prompts(run, self.tokenizer)
        self._method = methods()[run.config.method]

    @cached_property
    def vocabulary(self) -> GgufVocabulary:
        """What a GGUF file says of the tokenizer; raises where the model cannot be written as one."""
        return check_architecture(
            AutoConfig.from_pretrained(self._base_dir, trust_remote_code=False), self.tokenizer
        )

    def write_model(self, folder: Path) -> dict[str, Any]:
        """Write safetensors, configuration and tokenizer; return what was verified.

        Raises:
            WorkbenchError: The model on disk does not say what the run's model says.
        """
        tuned = self._tuned()
        self._enter("Writing the model")
        tuned.model.save_pretrained(folder, max_shard_size=SHARD_SIZE)
        self.tokenizer.save_pretrained(folder)
        for path in folder.glob("*.safetensors"):  # written for their owner only
            path.chmod((folder / "config.json").stat().st_mode)
        dtype = tuned.model.dtype
        expected, tolerance, learned = tuned.expected, tuned.tolerance, tuned.learned
        del tuned
        gc.collect()
        self._enter("Reading it again and comparing")
        again = load_to_ask(folder, self._compute, asking_dtype(dtype, self._compute))
        found = say(again, load_tokenizer(folder), self._prompts, self._compute)
        return self._checked("merged model", found, expected, tolerance, learned)

    def write_gguf(self, path: Path, text: GgufText) -> dict[str, Any]:
        """Write a GGUF file; return what was verified.

        Raises:
            WorkbenchError: It cannot be written, or does not say what the run's model says.
        """
        vocabulary = self.vocabulary  # refused before the work, where it is
        tuned = self._tuned()
        self._enter("Comparing the merged model")
        # Rounded already; now only held in the format that computes best.
        round_to(tuned.model, asking_dtype(tuned.model.dtype, self._compute))
        merged = say(tuned.model, self.tokenizer, self._prompts, self._compute)
        checks = self._checked(
            "merged model", merged, tuned.expected, tuned.tolerance, tuned.learned
        )
        self._enter("Writing the GGUF file", weight_count(tuned.model))
        gguf_type = self._request.gguf_type
        write_gguf(tuned.model, self.tokenizer, vocabulary, path, gguf_type, text, self._advance)
        config = tuned.model.config
        del tuned
        gc.collect()
        self._enter("Reading it again and comparing")
        found = self._say_of_gguf(path, config)
        gguf_tolerance = max(GGUF_TOLERANCES[gguf_type], TOLERANCES[self._compute.dtype])
        return {
            "merged": checks,
            "gguf": self._checked("GGUF file", found, merged, gguf_tolerance, None),
        }

    def _tuned(self) -> Tuned:
        """Load what the run learned, ask it, and make it one plain model."""
        directory = self._request.source_dir(self._run)
        dtype = base_dtype(self._base_dir)
        self._enter("Loading the model")
        if self._method.saves == "model":
            own = asking_dtype(base_dtype(directory), self._compute)
            model = load_to_ask(directory, self._compute, own)
            self._enter("Asking the tuned model")
            expected = say(model, self.tokenizer, self._prompts, self._compute)
            return Tuned(round_to(model, dtype), expected, self._tolerance(dtype), None)
        model = load_adapter(
            self._base_dir, directory, self._method, self._compute, self._request.strength
        )
        self._enter("Asking the tuned model")
        expected = say(model, self.tokenizer, self._prompts, self._compute)
        with model.disable_adapter():
            base = say(model, self.tokenizer, self._prompts, self._compute, with_answers=False)
        self._enter("Merging", layer_count(model))
        tolerance = INT8_TOLERANCE if self._method.base == "int8" else self._tolerance(dtype)
        plain = merge(model, dtype, self._advance)
        return Tuned(plain, expected, tolerance, distance(base, expected))

    def _tolerance(self, dtype: torch.dtype) -> float:
        """Return how far rounding may move logits: that of the weights, or that of what is computed with them."""
        return max(TOLERANCES[dtype], TOLERANCES[self._compute.dtype])

    def _say_of_gguf(self, path: Path, config: Any) -> Said:
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        tokenizer = self._tokenizer_of_gguf(path)
        # transformers reads no slowed positions (Llama 3.1 and later) out of a GGUF; llama.cpp does.
        known = {"config": config} if config.rope_parameters["rope_type"] != "default" else {}
        model = AutoModelForCausalLM.from_pretrained(
            **where,
            **known,
            quantization_config=GgufConfig(dequantize=True),
            dtype=self._compute.dtype,
            trust_remote_code=False,
        ).to(self._compute.device)
        return say(model, tokenizer, self._prompts, self._compute)

    def _tokenizer_of_gguf(self, path: Path) -> Any:
        """Return a tokenizer that reads the questions as the file's does, once they are compared.

        transformers looks over what a file says of SentencePiece's spaces, so those are read as llama.cpp does.
        """
        stored = read_gguf(path)
        where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
        tokenizer = (
            self.tokenizer
            if stored
            else AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        )
        for prompt in self._prompts:
            asked = prompt.messages[:-1]
            ids = read_prompt(*stored, tokenizer, asked) if stored else prompt_ids(tokenizer, asked)
            if ids != prompt_ids(self.tokenizer, asked):
                raise WorkbenchError(
                    "The tokenizer in the GGUF file reads a question of your data differently, so the file was "
                    "deleted.",
                    "Export the merged model instead.",
                )
        return tokenizer

    def _checked(
        self, what: str, found: Said, expected: Said, tolerance: float, learned: float | None
    ) -> dict[str, Any]:
        far = distance(found, expected)
        if learned is not None and far > LEARNED_SHARE * learned and far <= tolerance:
            raise WorkbenchError(
                f"What this run learned changes the model by {learned:.2%}, and rounding its weights by {far:.2%}: "
                "merged, little of it would be left, so nothing was kept.",
                "Export the adapter instead, or train longer.",
            )
        if far > tolerance:
            raise WorkbenchError(
                f"The {what} does not say what the tuned model says: it is {far:.2%} away, and {tolerance:.1%} is "
                "the most that rounding explains. It was deleted.",
                "Export the adapter instead. This should not happen: please report it.",
            )
        return {
            "distance": far,
            "tolerance": tolerance,
            "learned": learned,
            "prompts": len(self._prompts),
            "same_answers": same_answers(found, expected),
        }

    def _enter(self, words: str, total: int = 0) -> None:
        if self._stop_requested():
            raise StopRequested
        self._progress.enter(words, total)

    def _advance(self, count: int) -> None:
        if self._stop_requested():
            raise StopRequested
        self._progress.advance(count)


def _exact(compute: Compute) -> Compute:
    """Compute in fp32 where memory is the computer's own; in bf16 a comparison sees mostly its own rounding."""
    return replace(compute, precision="fp32") if compute.device == "cpu" else compute
