"""Write answers with the models of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from workbench.asking.loading import limit_of
from workbench.chat import OTHER_RUN, served_models
from workbench.compute import choose_compute
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.hardware import cpu_cores
from workbench.inference.answer import Answer, Asked, Question, Sampling, check_numbers
from workbench.inference.context import Prompt, fit_conversation, fit_text
from workbench.inference.loaded import Ready, check_strength, load_models
from workbench.models.rendering import load_tokenizer, prompt_ids, stop_ids
from workbench.runs.store import Run, sibling
from workbench.runs.strength import kept_strength


class UnknownModelError(WorkbenchError):
    """The run has no model of that name."""


class Engine:
    """The models of one run. ``begin`` and ``next_logits`` are for one thread; the rest is for any.

    Args:
        run: A run with a saved model or a checkpoint.
        base_dir: Folder of the model it started from.
    """

    def __init__(self, run: Run, base_dir: Path) -> None:
        torch.set_num_threads(cpu_cores())
        self.run = run
        self._base_dir = base_dir
        self._compute = choose_compute(run.config.precision)
        self.tokenizer = load_tokenizer(base_dir)
        self._stop_ids = stop_ids(self.tokenizer)
        self._models, config = load_models(run, base_dir, self._compute)
        virtual_tokens = (
            (run.config.virtual_tokens or 0) if run.config.uses("virtual_tokens") else 0
        )
        self.limit_tokens = limit_of(config) - virtual_tokens

    @property
    def model_names(self) -> list[str]:
        """What can be asked now: checkpoints come and go while this runs."""
        return list(served_models(self.run))

    def find(self, name: str, strength: float | None = None) -> Asked:
        """Return what is to be asked, before anything is loaded.

        Args:
            name: One of ``model_names``.
            strength: How much of the adapter is on; ``None`` for what is kept with its run.

        Raises:
            UnknownModelError: There is no such model.
            WorkbenchError: The strength cannot be changed.
        """
        served = served_models(self.run)
        if name not in served:
            raise UnknownModelError(
                f"There is no model {name!r}.", f"There are {', '.join(served)}."
            )
        directory = served[name]
        if strength is None:
            strength = kept_strength(self._run_of(name)) if directory else 1.0
        check_strength(self._models, name, strength)
        return Asked(name, directory or self._base_dir, strength)

    def _run_of(self, name: str) -> Run:
        if not name.startswith(OTHER_RUN):
            return self.run
        return sibling(self.run, name.removeprefix(OTHER_RUN))

    def chat_prompt(self, messages: Sequence[Message], max_tokens: int) -> Prompt:
        """Write a conversation as the model was trained to read it.

        Raises:
            WorkbenchError: The chat template refuses it, or the last message alone is too long.
        """
        try:
            return fit_conversation(
                messages,
                max_tokens,
                self.limit_tokens,
                lambda shorter: prompt_ids(self.tokenizer, shorter),
            )
        except TemplateError as error:
            raise WorkbenchError(
                f"This model's chat template refuses the conversation: {error}",
                "Some models take no system prompt, and want questions and answers in turn.",
            ) from error

    def text_prompt(self, text: str, max_tokens: int) -> Prompt:
        """Take a text as it is, for the model to go on with.

        Raises:
            WorkbenchError: It is too long.
        """
        ids: list[int] = self.tokenizer(text)["input_ids"] or [self.tokenizer.eos_token_id]
        return fit_text(ids, max_tokens, self.limit_tokens)

    def text_of(self, prompt: Prompt) -> str:
        """Return exactly what the model reads, with the special tokens."""
        text: str = self.tokenizer.decode(prompt.ids, skip_special_tokens=False)
        return text

    def begin(self, question: Question) -> Answer:
        """Read a prompt and write the first token; all of the answer where the model has no short way."""
        answer = Answer(self.tokenizer, self._stop_ids, question)
        if answer.is_over:
            return answer
        asked = question.asked
        with torch.inference_mode(), self._compute.autocast():
            with self._models.use(asked.name, asked.directory, asked.strength) as ready:
                if ready.quick is None:
                    self._generate(ready.model, answer)
                else:
                    self._read(ready, answer)
        return answer

    def fits_beside(self, question: Question) -> bool:
        """Say whether it can begin while others are written, whose models cannot be given up for its."""
        return self._models.has_room_for(question.asked.name)

    def next_logits(self, answers: Sequence[Answer]) -> list[Tensor]:
        """Return what answers that are not over ``choose`` their next token from; those of one model read its weights once.

        Returns:
            float32 (1, vocabulary) for each.
        """
        found: dict[int, Tensor] = {}
        with torch.inference_mode():
            for quick in {id(answer.quick): answer.quick for answer in answers}.values():
                assert quick is not None
                together = [answer for answer in answers if answer.quick is quick]
                logits = quick.step([answer.row for answer in together]).split(1)
                found |= zip(map(id, together), logits, strict=True)
        return [found[id(answer)] for answer in answers]

    def _read(self, ready: Ready, answer: Answer) -> None:
        """Let the model read the prompt in its own way."""
        ids = answer.ids
        # Like ``generate``: of the prompt only the last token's logits.
        read = ready.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_cache=True,
            logits_to_keep=1,
        )
        answer.quick, answer.factors, answer.cache = (
            ready.quick,
            ready.factors,
            read.past_key_values,
        )
        answer.choose(read.logits[:, -1].float())

    def _generate(self, model: Any, answer: Answer) -> None:
        """Write all of an answer with ``generate`` of transformers."""
        input_ids = answer.ids.to(self._compute.device)
        seed = answer.sampling.seed
        # After loading: a new adapter begins with random numbers.
        torch.seed() if seed is None else torch.manual_seed(seed)
        model.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=answer.prompt.max_tokens,
            eos_token_id=self._stop_ids,
            pad_token_id=self._stop_ids[0],
            logits_processor=[_NumbersOnly()],
            stopping_criteria=[_Listener(answer)],
            use_cache=True,
            **_choice(answer.sampling),
        )
        # A model's generation_config.json may have ended it, after some time for example.
        if not answer.is_over:
            answer.finish()


class _NumbersOnly(LogitsProcessor):
    """Lets ``generate`` choose from numbers only; on CUDA anything else would end the process's use of the card."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        check_numbers(scores)
        return scores


class _Listener(StoppingCriteria):
    """Hands the tokens of ``generate`` to an answer, which says when it is enough.

    A streamer would see the tokens too, but only after the decision to write another one.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __call__(
        self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
    ) -> torch.Tensor:
        self._answer.add(int(input_ids[0, -1]))
        return torch.full((1,), self._answer.is_over, device=input_ids.device)


def _choice(sampling: Sampling) -> dict[str, Any]:
    """Return how ``generate`` chooses, all of it: a model's own generation_config.json has no say."""
    chosen: dict[str, Any] = {
        "do_sample": sampling.temperature > 0,
        "repetition_penalty": sampling.repetition_penalty,
    }
    if sampling.temperature > 0:
        chosen |= {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
        }
    return chosen
