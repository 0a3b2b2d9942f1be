"""Generate answers from the base model and from the tuned one, side by side on one copy of the base."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    StoppingCriteria,
    TextIteratorStreamer,
    set_seed,
)

from workbench.chat import ModelName
from workbench.compute import choose_compute
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.hardware import cpu_cores
from workbench.models.rendering import load_tokenizer, prompt_ids, stop_ids
from workbench.presets import methods
from workbench.runs.store import Run


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. ``temperature`` 0 always takes the likeliest (greedy)."""

    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 256
    seed: int | None = None


class Engine:
    """The models of one run.

    An adapter is switched on and off on one base. After full tuning the base is a second model,
    loaded when it is first asked.

    Args:
        run: A run with a saved model.
        base_dir: Folder of the model it started from.
    """

    def __init__(self, run: Run, base_dir: Path) -> None:
        torch.set_num_threads(cpu_cores())
        self._compute = choose_compute(run.config.precision)
        self._base_dir = base_dir
        self._method = methods()[run.config.method]
        self.tokenizer = load_tokenizer(base_dir)
        self._stop_ids = stop_ids(self.tokenizer)
        self._full_base: Any = None
        self._one_at_a_time = threading.Lock()
        if self._method.saves == "adapter":
            self._tuned = PeftModel.from_pretrained(self._load(base_dir), run.model_dir).eval()
        else:
            self._tuned = self._load(run.model_dir)

    def stream(
        self, name: ModelName, messages: Sequence[Message], sampling: Sampling
    ) -> Iterator[str]:
        """Yield an answer piece by piece. Closing the iterator stops the model within one token.

        Args:
            name: Which model answers.
            messages: The conversation; ends on a user message.
            sampling: How to choose tokens.

        Raises:
            WorkbenchError: The conversation is longer than the model can read.
        """
        ids = prompt_ids(self.tokenizer, messages)
        self._check_length(len(ids), sampling.max_tokens)
        stop = _Stop()
        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        failure: list[BaseException] = []

        def generate() -> None:
            try:
                self._generate(name, ids, sampling, streamer, stop)
            except BaseException as error:  # handed to the reader below
                failure.append(error)
            finally:
                streamer.end()

        with self._one_at_a_time:
            worker = threading.Thread(target=generate, daemon=True)
            worker.start()
            try:
                yield from (piece for piece in streamer if piece)
            finally:
                stop.requested = True
                worker.join()
        if failure:
            raise failure[0]

    def _generate(
        self,
        name: ModelName,
        ids: list[int],
        sampling: Sampling,
        streamer: TextIteratorStreamer,
        stop: _Stop,
    ) -> None:
        input_ids = torch.tensor([ids], device=self._compute.device)
        if sampling.seed is not None:
            set_seed(sampling.seed)
        greedy = sampling.temperature <= 0
        choice = {} if greedy else {"temperature": sampling.temperature, "top_p": sampling.top_p}
        model, adapter_switch = self._model(name)
        with torch.inference_mode(), self._compute.autocast(), adapter_switch:
            model.generate(
                input_ids=input_ids,
                attention_mask=torch.ones_like(input_ids),
                max_new_tokens=sampling.max_tokens,
                do_sample=not greedy,
                **choice,
                eos_token_id=self._stop_ids,
                pad_token_id=self._stop_ids[0],
                streamer=streamer,
                stopping_criteria=[stop],
                use_cache=True,
            )

    def _model(self, name: ModelName) -> tuple[Any, AbstractContextManager[Any]]:
        """Return the model, and the context in which it is the one that was asked for."""
        if name == "tuned":
            return self._tuned, nullcontext()
        if self._method.saves == "adapter":
            return self._tuned, self._tuned.disable_adapter()
        if self._full_base is None:
            self._full_base = self._load(self._base_dir)
        return self._full_base, nullcontext()

    def _load(self, directory: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=self._compute.dtype,
            quantization_config=self._compute.quantization(self._method.base),
            device_map={"": self._compute.device},
            trust_remote_code=False,
            use_safetensors=True,
        ).eval()

    def _check_length(self, prompt_tokens: int, answer_tokens: int) -> None:
        limit = self._tuned.config.get_text_config().max_position_embeddings
        if prompt_tokens + answer_tokens > limit:
            raise WorkbenchError(
                f"The conversation has {prompt_tokens:,} tokens; with an answer of up to "
                f"{answer_tokens:,} it is longer than the {limit:,} this model can read.",
                "Start a new conversation or write less.",
            )


class _Stop(StoppingCriteria):
    """Ends generation after the current token once ``requested`` is true."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        return torch.full((input_ids.shape[0],), self.requested, device=input_ids.device)
