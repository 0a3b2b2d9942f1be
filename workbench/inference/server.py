"""An OpenAI-compatible server for the models of one run: ``base``, ``tuned`` and ``step-N``."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from workbench.errors import WorkbenchError
from workbench.inference.answer import Asked, Outcome, Question
from workbench.inference.api import (
    AnswerRequest,
    ChatRequest,
    Envelope,
    TextRequest,
    error_body,
)
from workbench.inference.context import Prompt
from workbench.inference.engine import Engine, UnknownModelError
from workbench.inference.gate import Gate
from workbench.inference.writer import Writer

CLIENT_GONE = 499  # nginx's code for a client that closed the connection; nobody reads it


def build_server(engine: Engine, token: str, thread: ThreadPoolExecutor) -> Gate:
    """Build the server.

    Args:
        engine: What answers.
        token: Every request must carry it as ``Authorization: Bearer …``.
        thread: The one thread that computes.
    """
    writer = Writer(engine, thread)
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def respond(
        body: AnswerRequest, asked: Asked, prompt: Prompt, request: Request
    ) -> Response | dict[str, Any]:
        answer = _Written(writer, body, asked, prompt)
        if body.stream:
            return _ClosingResponse(_events(answer), media_type="text/event-stream")
        pieces = []
        async with aclosing(answer.pieces()) as written:
            async for piece in written:
                pieces.append(piece)
                if await request.is_disconnected():
                    return Response(status_code=CLIENT_GONE)
        return answer.envelope.whole("".join(pieces), answer.outcome)

    @server.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(engine, name) for name in engine.model_names]}

    @server.get("/v1/models/{name}")
    def model(name: str) -> dict[str, Any]:
        engine.find(name)
        return _model(engine, name)

    @server.post("/v1/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> Response | dict[str, Any]:
        asked = engine.find(body.model, body.strength)
        prompt = await run_in_threadpool(engine.chat_prompt, body.conversation, body.longest)
        return await respond(body, asked, prompt, request)

    @server.post("/v1/completions", response_model=None)
    async def complete(body: TextRequest, request: Request) -> Response | dict[str, Any]:
        asked = engine.find(body.model, body.strength)
        prompt = await run_in_threadpool(engine.text_prompt, body.prompt, body.longest)
        return await respond(body, asked, prompt, request)

    @server.post("/v1/workbench/prompt")
    def show_prompt(body: ChatRequest) -> dict[str, Any]:
        """Say what the model would read, without an answer."""
        prompt = engine.chat_prompt(body.conversation, body.longest)
        return {
            "text": engine.text_of(prompt),
            "tokens": len(prompt.ids),
            "workbench_note": prompt.note,
        }

    _explain_failures(server)
    return Gate(server, token)


class _Written:
    """One answer while it is written."""

    def __init__(self, writer: Writer, body: AnswerRequest, asked: Asked, prompt: Prompt) -> None:
        self._writer, self._body, self._asked, self._prompt = writer, body, asked, prompt
        self.envelope = Envelope(body, prompt)
        self.outcome = Outcome("stop", 0)

    async def pieces(self) -> AsyncGenerator[str]:
        """Yield the text as it is written; closing this ends the writing within one token."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        is_closed = threading.Event()

        def put(piece: str | None) -> None:
            loop.call_soon_threadsafe(queue.put_nowait, piece)

        written = self._writer.write(
            Question(self._asked, self._prompt, self._body.sampling, put, is_closed.is_set)
        )
        written.add_done_callback(lambda _: put(None))
        try:
            while (piece := await queue.get()) is not None:
                yield piece
            self.outcome = written.result()
        finally:
            is_closed.set()

    @property
    def wants_usage(self) -> bool:
        options = self._body.stream_options
        return bool(options and options.include_usage)


class _ClosingResponse(StreamingResponse):
    """Closes what it streams when the client goes, instead of leaving that to the garbage collector."""

    async def stream_response(self, send: Send) -> None:
        assert isinstance(self.body_iterator, AsyncGenerator)
        async with aclosing(self.body_iterator):
            await super().stream_response(send)


async def _events(answer: _Written) -> AsyncIterator[str]:
    """Write an answer as server-sent events; a failure is told in the stream."""
    envelope = answer.envelope
    yield _event(envelope.first())
    try:
        async with aclosing(answer.pieces()) as pieces:
            async for piece in pieces:
                yield _event(envelope.piece(piece))
    except Exception as error:  # the status was sent long ago
        yield _event(error_body(_words(error), "server_error"))
    else:
        yield _event(envelope.last(answer.outcome))
        if answer.wants_usage:
            yield _event(envelope.usage(answer.outcome))
    yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _model(engine: Engine, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(engine.run.created),
        "owned_by": "workbench",
    }


def _explain_failures(server: FastAPI) -> None:
    """Answer every failure as OpenAI's clients expect it."""

    @server.exception_handler(WorkbenchError)
    def explain(request: Request, error: WorkbenchError) -> JSONResponse:
        status = 404 if isinstance(error, UnknownModelError) else 400
        return JSONResponse(error_body(_words(error)), status_code=status)

    @server.exception_handler(RequestValidationError)
    def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        return JSONResponse(error_body(f"{place or 'The body'}: {first['msg']}"), status_code=400)

    @server.exception_handler(HTTPException)
    def pass_on(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(error_body(str(error.detail)), status_code=error.status_code)

    @server.exception_handler(Exception)
    def fail(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(error_body(_words(error), "server_error"), status_code=500)


def _words(error: Exception) -> str:
    if isinstance(error, WorkbenchError):
        return str(error)
    traceback.print_exception(error, file=sys.stderr)
    return f"The model could not answer: {type(error).__name__}: {error}"
