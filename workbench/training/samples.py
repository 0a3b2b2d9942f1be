"""Watch it learn: a few questions, answered before training, at every check and at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from workbench.asking.greedy import greedy_answers, quick_answers
from workbench.asking.loading import standard_attention
from workbench.asking.products import usual_way
from workbench.asking.quick import QuickModel, quick_model
from workbench.compute import Compute
from workbench.config import WATCHED_ANSWER_TOKENS, TrainingConfig
from workbench.data.formats import Conversation, Message
from workbench.models.rendering import prompt_ids
from workbench.models.thoughts import without_empty_thought
from workbench.runs.events import Event, SampleEvent
from workbench.training.attention import attention


@dataclass(frozen=True)
class Question:
    """A question to watch, with the messages before it and the answer of the data, if it has one."""

    messages: list[Message]
    expected: str = ""


def questions_to_watch(config: TrainingConfig, watched: Sequence[Conversation]) -> list[Question]:
    """Return the questions of some conversations, the last turn of each, and the person's own."""
    rows = [
        Question(conversation["messages"][:-1], conversation["messages"][-1]["content"])
        for conversation in watched[: config.watched_rows]
    ]
    own = [text.strip() for text in config.watched_questions.split("|") if text.strip()]
    return rows + [Question([{"role": "user", "content": text}]) for text in own]


class SampleWriter(TrainerCallback):
    """Ask the questions and emit the answers.

    Args:
        questions: What is asked.
        model: The model in training.
        tokenizer: Its tokenizer.
        compute: Device and precision.
        emit: Where events go.
        stop_requested: Nothing more is asked then.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        model: Any,
        tokenizer: Any,
        compute: Compute,
        emit: Callable[[Event], None],
        stop_requested: Callable[[], bool],
    ) -> None:
        self._questions = questions
        self._model = model
        self._tokenizer = tokenizer
        self._compute = compute
        self._emit = emit
        self._stop_requested = stop_requested
        self._asked_at = -1
        self._quick: QuickModel | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask what it says before the first step."""
        if self._questions:
            self._quick = self._short_way()
        if state.global_step == 0:
            self._ask(0)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask at every check."""
        if state.global_step:
            self._ask(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask what it says now."""
        self._ask(state.global_step)

    def _ask(self, step: int) -> None:
        if step == self._asked_at or self._stop_requested() or not self._questions:
            return
        self._asked_at = step
        answers = self._answers([question.messages for question in self._questions])
        for question, answer in zip(self._questions, answers, strict=True):
            shown = question.messages[-1]["content"]
            event = SampleEvent(
                step=step, question=shown, answer=answer, expected=question.expected
            )
            self._emit(event)

    def _answers(self, conversations: Sequence[list[Message]]) -> list[str]:
        """Return the likeliest answers; training's own attention reads no padding."""
        prompts = [prompt_ids(self._tokenizer, messages) for messages in conversations]
        self._model.eval()
        asked = self._tokenizer, self._compute, prompts, WATCHED_ANSWER_TOKENS
        factors = self._quick.prepare(self._model.active_adapter) if self._quick else None
        with attention(self._model, standard_attention(self._model)):
            if self._quick is None or factors is None:
                made = greedy_answers(self._model, *asked)
            else:
                made = quick_answers(self._model, self._quick, factors, *asked)
        texts: list[str] = self._tokenizer.batch_decode(made, skip_special_tokens=True)
        return [without_empty_thought(text).strip() for text in texts]

    def _short_way(self) -> QuickModel | None:
        """Return the short way through the model, for a base that does not learn."""
        model = self._model
        if not isinstance(model, PeftModel) or self._compute.device != "cpu":
            return None
        model.eval()
        way = usual_way(model.get_output_embeddings().weight.dtype)
        with (
            attention(model, standard_attention(model)),
            model.disable_adapter(),
            self._compute.autocast(),
        ):
            return quick_model(model, way)
