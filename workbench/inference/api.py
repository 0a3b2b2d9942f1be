"""What the server is asked and what it answers: the OpenAI API, and a few fields of our own.

https://platform.openai.com/docs/api-reference/chat and …/completions
"""

from __future__ import annotations

import time
import uuid
from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator

from workbench.config import ANSWER_TOKENS
from workbench.data.formats import Message
from workbench.inference.answer import Outcome, Sampling
from workbench.inference.context import Prompt
from workbench.runs.strength import MOST

MOST_STOPS = 4  # as in the OpenAI API


class TextPart(BaseModel):
    """A piece of a message; pictures are not understood."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def as_message(self) -> Message:
        """Return it as conversations are kept."""
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(BaseModel):
    """What a stream tells besides the text."""

    include_usage: bool = False


class AnswerRequest(BaseModel):
    """What both endpoints take; other OpenAI fields are ignored.

    Attributes:
        temperature: 0, the default, always takes the likeliest token.
        top_k: Not in the OpenAI API; 0 for off. Nor are the next two.
        repetition_penalty: 1 for off.
        strength: How much of the adapter is on: 0 is the base, 1 as trained, above 1 exaggerates; without it, what
            is kept with the run.
    """

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    repetition_penalty: float = Field(1.0, gt=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    strength: float | None = Field(None, ge=0, le=MOST)
    n: Literal[1] = 1

    @field_validator("stop")
    @classmethod
    def _not_too_many(cls, stop: str | list[str] | None) -> str | list[str] | None:
        if isinstance(stop, list) and len(stop) > MOST_STOPS:
            raise ValueError(f"there can be {MOST_STOPS} at most")
        return stop

    @property
    def longest(self) -> int:
        """The longest answer in tokens."""
        return self.max_tokens or ANSWER_TOKENS

    @property
    def sampling(self) -> Sampling:
        """How to choose tokens."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Sampling(
            self.temperature, self.top_p, self.top_k, self.repetition_penalty, stop, self.seed
        )


class ChatRequest(AnswerRequest):
    """Body of ``POST /v1/chat/completions``."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)  # the newer name

    @property
    def longest(self) -> int:
        """The longest answer in tokens."""
        return self.max_completion_tokens or super().longest

    @property
    def conversation(self) -> list[Message]:
        """The messages as conversations are kept."""
        return [message.as_message() for message in self.messages]


class TextRequest(AnswerRequest):
    """Body of ``POST /v1/completions``."""

    prompt: str


class Envelope:
    """Writes the bodies of one answer, which share an id.

    Args:
        request: What was asked.
        prompt: What the model reads.
    """

    def __init__(self, request: AnswerRequest, prompt: Prompt) -> None:
        self._is_chat = isinstance(request, ChatRequest)
        self._prompt = prompt
        prefix = "chatcmpl" if self._is_chat else "cmpl"
        self._head = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": request.model,
        }

    def whole(self, text: str, outcome: Outcome) -> dict[str, Any]:
        """Return the body of an answer in one piece."""
        said: dict[str, Any] = {"text": text}
        if self._is_chat:
            said = {"message": {"role": "assistant", "content": text}}
        kind = "chat.completion" if self._is_chat else "text_completion"
        choice = {"index": 0, **said, "finish_reason": outcome.finish_reason, "logprobs": None}
        return self._body(kind, [choice]) | self._note() | {"usage": self._usage(outcome)}

    def first(self) -> dict[str, Any]:
        """Return the body that begins a stream; it has the note, if there is one."""
        return self._chunk({"role": "assistant", "content": ""}, "", None) | self._note()

    def piece(self, text: str) -> dict[str, Any]:
        """Return the body of one piece of a stream."""
        return self._chunk({"content": text}, text, None)

    def last(self, outcome: Outcome) -> dict[str, Any]:
        """Return the body that says how the answer ended."""
        return self._chunk({}, "", outcome.finish_reason)

    def usage(self, outcome: Outcome) -> dict[str, Any]:
        """Return the body with the counts, which ends a stream when it was asked for."""
        return self._body(self._chunk_kind, []) | {"usage": self._usage(outcome)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self._is_chat else "text_completion"

    def _chunk(self, delta: dict[str, str], text: str, finish_reason: str | None) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": delta} if self._is_chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": finish_reason, "logprobs": None}
        return self._body(self._chunk_kind, [choice])

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {**self._head, "object": kind, "choices": choices}

    def _note(self) -> dict[str, str]:
        return {"workbench_note": self._prompt.note} if self._prompt.note else {}

    def _usage(self, outcome: Outcome) -> dict[str, int]:
        read, written = len(self._prompt.ids), outcome.tokens
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }


def error_body(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """Return the body that OpenAI's clients show as the reason of a failure."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
