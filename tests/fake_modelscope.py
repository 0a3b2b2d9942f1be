"""ModelScope on loopback: the three calls that a download takes."""

from __future__ import annotations

import hashlib
import json
from urllib.parse import parse_qs, unquote, urlparse

from tests.fake_server import FakeServer


class ModelScope(FakeServer):
    """Models by name, each a dict of path and bytes.

    ``private`` names those that want ``token``; ``cut_at_bytes`` drops the connection of the next large file
    there; ``wrong`` names files whose promised hash is another one; ``requested`` lists files and where
    their download began.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.token = ""
        self.cut_at_bytes: int | None = None
        self.wrong: set[str] = set()
        self.requested: list[tuple[str, int]] = []

    def answer(self, request, *, send_body) -> None:
        address = urlparse(request.path)
        parts = unquote(address.path).removeprefix("/api/v1/models/").split("/")
        name, call = "/".join(parts[:2]), "/".join(parts[2:])
        files = self.repositories.get(name)
        if files is None:
            return _send(request, 404, b"{}")
        if name in self.private and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _send(request, 403, b"{}")
        if call == "":
            return _send_data(request, {"License": "apache-2.0", "Name": parts[1]})
        if call == "repo/files":
            return _send_data(request, {"Files": [self._entry(*item) for item in files.items()]})
        path = parse_qs(address.query)["FilePath"][0]
        start = int(request.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.requested.append((path, start))
        data = files[path][start:]
        sent = data
        if self.cut_at_bytes and len(data) > self.cut_at_bytes:
            sent, self.cut_at_bytes = data[: self.cut_at_bytes], None
            request.close_connection = True
        _send(request, 206 if start else 200, sent, length=len(data))

    def _entry(self, path: str, data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data + (b"!" if path in self.wrong else b"")).hexdigest()
        return {"Path": path, "Type": "blob", "Size": len(data), "Sha256": digest}


def _send_data(request, data: dict[str, object]) -> None:
    _send(request, 200, json.dumps({"Code": 200, "Data": data}).encode())


def _send(request, status: int, body: bytes, *, length: int | None = None) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)
