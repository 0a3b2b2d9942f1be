"""A Hugging Face Hub on loopback: enough of its HTTP API for ``huggingface_hub`` to download from."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Repositories by name, each a dict of file name and bytes.

    ``gated`` names repositories that want a licence accepted; ``drop_after_bytes`` cuts the connection of a
    download once, as a bad network does; ``requested`` lists the files asked for.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.drop_after_bytes: int | None = None
        self.requested: list[str] = []
        self.endpoint = ""

    def add_folder(self, name: str, folder: Path) -> None:
        self.repositories[name] = {path.name: path.read_bytes() for path in folder.iterdir()}

    @contextmanager
    def serve(self) -> Iterator[Hub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args) -> None:
                pass

            def do_HEAD(self) -> None:
                hub._answer(self, send_body=False)

            def do_GET(self) -> None:
                hub._answer(self, send_body=True)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, *, send_body: bool) -> None:
        parts = [unquote(part) for part in urlparse(request.path).path.strip("/").split("/")]
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        files = self.repositories.get(name)
        if files is None:
            return _send(request, 404, b"{}", send_body, {"X-Error-Code": "RepoNotFound"})
        if name in self.gated and not is_api:
            return _send(request, 403, b"{}", send_body, {"X-Error-Code": "GatedRepo"})
        if not is_api:
            return self._send_file(request, parts[-1], files[parts[-1]], send_body)
        if "tree" in parts:
            body = [_entry(path, data) for path, data in files.items()]
            return _send(request, 200, json.dumps(body).encode(), send_body, {})
        siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
        info = {"id": name, "sha": COMMIT, "private": False, "gated": False, "siblings": siblings}
        return _send(request, 200, json.dumps(info).encode(), send_body, {})

    def _send_file(self, request, name: str, data: bytes, send_body: bool) -> None:
        if send_body:
            self.requested.append(name)
        start = int(request.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.drop_after_bytes if send_body and name.endswith(".safetensors") else None
        if cut is None:
            return _send(request, 206 if start else 200, data[start:], send_body, headers)
        self.drop_after_bytes = None
        _send(request, 200, data[:cut], send_body, headers, length=len(data))
        request.close_connection = True


def _entry(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def _send(request, status: int, body: bytes, send_body: bool, headers, *, length=None) -> None:
    request.send_response(status)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    if send_body:
        request.wfile.write(body)
