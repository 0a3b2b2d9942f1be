"""A Hugging Face Hub on loopback: enough of its HTTP API for ``huggingface_hub`` to download from."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlparse

from tests.fake_server import FakeServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CUT = (".safetensors", ".jsonl")  # what a dropped connection drops


class Hub(FakeServer):
    """Models (``repositories``) and ``datasets`` by name, each a dict of path and bytes.

    ``gated`` names repositories that want a licence accepted; ``refuses_tokens`` answers as to a wrong one;
    ``drop_after_bytes`` cuts the connection of a download once, as a bad network does; ``requested`` lists
    the files asked for, ``resumed_at_bytes`` where downloads were taken up again. A gated one is given to who
    has ``token``. Of the files in ``held`` only the first half is sent, until they are released.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.datasets: dict[str, dict[str, bytes]] = {}
        self.tags: list[str] = []
        self.gated: set[str] = set()
        self.refuses_tokens = False
        self.drop_after_bytes: int | None = None
        self.requested: list[str] = []
        self.resumed_at_bytes: list[int] = []
        self.token = ""
        self.held: set[str] = set()

    def add_folder(self, name: str, folder: Path) -> None:
        self.repositories[name] = {path.name: path.read_bytes() for path in folder.iterdir()}

    def use(self, monkeypatch) -> None:
        """Make this process and its children take this for the Hub."""
        monkeypatch.setenv("HF_ENDPOINT", self.endpoint)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        template = (
            "/{repo_id}/resolve/{revision}/{filename}"  # both were made from HF_ENDPOINT at import
        )
        for name, value in (("ENDPOINT", ""), ("HUGGINGFACE_CO_URL_TEMPLATE", template)):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", self.endpoint + value)

    def answer(self, request: BaseHTTPRequestHandler, *, send_body: bool) -> None:
        parts = [unquote(part) for part in urlparse(request.path).path.strip("/").split("/")]
        is_api = parts[0] == "api"
        kind = parts[is_api] if parts[is_api] in ("models", "datasets") else ""
        parts = parts[is_api + bool(kind) :]
        verbs = [parts.index(verb) for verb in ("resolve", "revision", "tree") if verb in parts]
        name = "/".join(parts[: min(verbs, default=len(parts))])
        files = (self.datasets if kind == "datasets" else self.repositories).get(name)
        if self.refuses_tokens:
            reason = {"X-Error-Message": "Invalid credentials in Authorization header"}
            return send(request, 401, b"{}", send_body, reason)
        if files is None:
            return send(request, 404, b"{}", send_body, {"X-Error-Code": "RepoNotFound"})
        allowed = request.headers.get("Authorization") == f"Bearer {self.token}"
        if name in self.gated and not is_api and not allowed:
            return send(request, 403, b"{}", send_body, {"X-Error-Code": "GatedRepo"})
        if not is_api:
            revision, path = parts[verbs[0] + 1], "/".join(parts[verbs[0] + 2 :])
            if revision != COMMIT or path not in files:
                return send(request, 404, b"{}", send_body, {"X-Error-Code": "EntryNotFound"})
            return self._send_file(request, path, files[path], send_body)
        if "tree" in parts:
            body = [_entry(path, data) for path, data in files.items()]
            return send(request, 200, json.dumps(body).encode(), send_body, {})
        return send(request, 200, json.dumps(self.info(name, files)).encode(), send_body, {})

    def info(self, name: str, files: dict[str, bytes]) -> dict[str, object]:
        """What the Hub says of a repository."""
        siblings = [{"rfilename": path, "size": len(data)} for path, data in files.items()]
        info = {"id": name, "sha": COMMIT, "private": False, "siblings": siblings}
        return info | {"gated": "auto" if name in self.gated else False, "tags": self.tags}

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
            self.resumed_at_bytes.append(start)
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        cut = self.drop_after_bytes if send_body and name.endswith(CUT) else None
        if send_body and name in self.held:
            half = len(data) // 2
            send(request, 200, data[:half], send_body, headers, length=len(data))
            request.wfile.flush()
            while name in self.held:
                time.sleep(0.05)
            with suppress(BrokenPipeError):  # who asked has gone
                request.wfile.write(data[half:])
            return None
        if cut is None:
            return send(request, 206 if start else 200, data[start:], send_body, headers)
        self.drop_after_bytes = None
        send(request, 200, data[:cut], send_body, headers, length=len(data))
        request.close_connection = True


def _entry(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


def send(request, status: int, body: bytes, send_body: bool, headers, *, length=None) -> None:
    request.send_response(status)
    for key, value in headers.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    if send_body:
        request.wfile.write(body)
