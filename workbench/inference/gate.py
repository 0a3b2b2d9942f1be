"""Who may ask: the token, no page of another site, no body that is too large."""

from __future__ import annotations

import hmac
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench.inference.api import error_body
from workbench.settings import LOOPBACK_HOSTS

BODY_LIMIT_BYTES = 4_000_000  # a million tokens, more than any of these models reads


class Gate:
    """Refuses what must not come in, and remembers when somebody last asked.

    Args:
        app: What is behind it.
        token: Every request must carry it as ``Authorization: Bearer …``.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token
        self._asking = 0
        self._last = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """For how long nobody has asked; 0 while an answer is being written."""
        return 0.0 if self._asking else time.monotonic() - self._last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if refusal := self._refusal(Headers(scope=scope)):
            await refusal(scope, receive, send)
            return
        self._asking += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._asking -= 1
            self._last = time.monotonic()

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).hostname not in LOOPBACK_HOSTS:
            return _refuse(403, "Pages of other sites may not ask this server.")
        wanted, got = f"Bearer {self._token}", headers.get("authorization", "")
        if not hmac.compare_digest(got.encode(), wanted.encode()):
            return _refuse(401, "The API key is missing or wrong.")
        if "transfer-encoding" in headers:
            return _refuse(411, "Send the length of the body (Content-Length).")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > BODY_LIMIT_BYTES:
            return _refuse(413, f"The body is larger than {BODY_LIMIT_BYTES:,} bytes.")
        return None


def _refuse(status: int, message: str) -> JSONResponse:
    return JSONResponse(error_body(message), status_code=status)
