"""The part of the OpenAI chat API that the playground uses; models are ``base`` and ``tuned``.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import hmac
import json
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from workbench.errors import WorkbenchError
from workbench.inference.engine import Engine, Sampling


class ChatMessage(BaseModel):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatRequest(BaseModel):
    """Body of ``POST /v1/chat/completions``; other OpenAI fields are ignored."""

    model: Literal["base", "tuned"]
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool = False
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(256, ge=1, le=8192)
    seed: int | None = None


def build_server(engine: Engine, token: str) -> FastAPI:
    """Build the server.

    Args:
        engine: What answers.
        token: Every request must carry it as ``Authorization: Bearer …``.
    """

    def check_token(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "The token is missing or wrong.")

    server = FastAPI(dependencies=[Depends(check_token)], docs_url=None, openapi_url=None)

    @server.exception_handler(WorkbenchError)
    def explain(request: Any, error: WorkbenchError) -> JSONResponse:
        return JSONResponse({"error": {"message": str(error)}}, status_code=400)

    @server.get("/v1/models")
    def models() -> dict[str, Any]:
        names = ("base", "tuned")
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}

    @server.post("/v1/chat/completions", response_model=None)
    def complete(request: ChatRequest) -> dict[str, Any] | StreamingResponse:
        pieces = engine.stream(
            request.model,
            [{"role": m.role, "content": m.content} for m in request.messages],
            Sampling(request.temperature, request.top_p, request.max_tokens, request.seed),
        )
        answer_id = f"chatcmpl-{uuid.uuid4().hex}"
        if request.stream:
            lines = _event_lines(pieces, request.model, answer_id)
            return StreamingResponse(lines, media_type="text/event-stream")
        message = {"role": "assistant", "content": "".join(pieces)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return _body(answer_id, "chat.completion", request.model, choice)

    return server


def _event_lines(pieces: Iterator[str], model: str, answer_id: str) -> Iterator[str]:
    """Write an answer as server-sent events; a failure is told in the stream."""
    try:
        for piece in pieces:
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
            yield _line(_body(answer_id, "chat.completion.chunk", model, choice))
    except WorkbenchError as error:
        yield _line({"error": {"message": str(error)}})
    yield _line(
        _body(
            answer_id,
            "chat.completion.chunk",
            model,
            {"index": 0, "delta": {}, "finish_reason": "stop"},
        )
    )
    yield "data: [DONE]\n\n"


def _line(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _body(answer_id: str, kind: str, model: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": answer_id,
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
    }
