"""A web server on loopback that answers as its subclass does."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class FakeServer(ABC):
    """Answers GET and HEAD requests in ``answer``, and what is sent in ``receive``.

    ``endpoint`` is its address while it serves.
    """

    endpoint = ""

    @abstractmethod
    def answer(self, request: BaseHTTPRequestHandler, *, send_body: bool) -> None:
        """Send the answer to one request; a HEAD request wants no body."""

    def receive(self, request: BaseHTTPRequestHandler) -> None:
        """Send the answer to a POST or PUT request, whose body may still be read."""
        request.send_error(405)

    @contextmanager
    def serve(self) -> Iterator[Self]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_HEAD(self) -> None:
                fake.answer(self, send_body=False)

            def do_GET(self) -> None:
                fake.answer(self, send_body=True)

            def do_POST(self) -> None:
                fake.receive(self)

            def do_PUT(self) -> None:
                fake.receive(self)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
