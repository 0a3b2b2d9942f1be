"""The part of a Hugging Face Hub that takes uploads, as ``huggingface_hub`` makes them: plain LFS, one commit."""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlparse

from tests.fake_hub import COMMIT, Hub, send

LFS_ENDINGS = (".safetensors", ".gguf")


class UploadHub(Hub):
    """A Hub with accounts: ``roles`` has what each token may do, all of them of ``account``.

    ``private`` says of every repository whether only its owner sees it; ``commits`` lists the message and the paths of
    each; ``received`` has every body. ``refusals`` maps a part of an address to the status and words it is answered
    with. ``drops_uploads`` closes the connection of that many uploads of a file halfway.
    """

    def __init__(self) -> None:
        super().__init__()
        self.roles: dict[str, str] = {"hf_writer": "write"}
        self.account, self.organizations = "maria", ["lab"]
        self.private: dict[str, bool] = {}
        self.commits: list[tuple[str, list[str]]] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        self.drops_uploads = 0
        self.received: list[bytes] = []
        self._objects: dict[str, bytes] = {}

    def answer(self, request: BaseHTTPRequestHandler, *, send_body: bool) -> None:
        if urlparse(request.path).path == "/api/whoami-v2":
            return self._say_who(request)
        return super().answer(request, send_body=send_body)

    def info(self, name: str, files: dict[str, bytes]) -> dict[str, object]:
        return super().info(name, files) | {"private": self.private.get(name, False)}

    def receive(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlparse(request.path).path)
        for part, (status, words) in self.refusals.items():
            if part in path:
                request.rfile.read(int(request.headers["Content-Length"]))
                return send_json(request, {"error": words}, status)
        if path.startswith("/storage/"):
            return self._take_object(request, path.removeprefix("/storage/"))
        if self._token(request) not in self.roles:
            return send_json(request, {"error": "Invalid credentials"}, 401)
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.received.append(body)
        if path.endswith("/commit/main"):
            return self._commit(request, _name(path), body)
        record = json.loads(body)
        if path == "/api/repos/create":
            return self._create(request, record)
        if path == "/api/validate-yaml":
            return send_json(request, {"warnings": [], "errors": []})
        if path.endswith("/preupload/main"):
            files = [_upload_mode(file) for file in record["files"]]
            return send_json(request, {"files": files})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [self._where_to(one) for one in record["objects"]]
            return send_json(request, {"transfer": "basic", "objects": objects})
        return send_json(request, {"error": f"unknown: {path}"}, 500)

    def _say_who(self, request: BaseHTTPRequestHandler) -> None:
        role = self.roles.get(self._token(request))
        if role is None:
            return send_json(request, {"error": "Invalid username or password."}, 401)
        organizations = [{"name": name} for name in self.organizations]
        account = {"type": "user", "name": self.account, "orgs": organizations}
        return send_json(request, account | {"auth": {"accessToken": {"role": role}}})

    def _create(self, request: BaseHTTPRequestHandler, record: dict[str, str]) -> None:
        name = f"{record['organization']}/{record['name']}"
        if record["organization"] not in (self.account, *self.organizations):
            words = "You don't have the rights to create a model under this namespace"
            return send_json(request, {"error": words}, 403)
        if name in self.repositories:
            return send_json(request, {"error": "You already created this model repo"}, 409)
        self.repositories[name] = {".gitattributes": b""}
        self.private[name] = record["visibility"] == "private"
        return send_json(request, {"url": f"{self.endpoint}/{name}"})

    def _where_to(self, wanted: dict[str, object]) -> dict[str, object]:
        if wanted["oid"] in self._objects:
            return wanted
        upload = {"href": f"{self.endpoint}/storage/{wanted['oid']}"}
        return wanted | {"actions": {"upload": upload}}

    def _take_object(self, request: BaseHTTPRequestHandler, oid: str) -> None:
        size = int(request.headers["Content-Length"])
        if self.drops_uploads:
            self.drops_uploads -= 1
            request.rfile.read(size // 2)
            request.connection.close()
            request.close_connection = True
            return None
        data = request.rfile.read(size)
        if hashlib.sha256(data).hexdigest() != oid:
            return send_json(request, {"error": "not what was announced"}, 400)
        self._objects[oid] = data
        return send_json(request, {})

    def _commit(self, request: BaseHTTPRequestHandler, name: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        files = self.repositories[name]
        for line in lines[1:]:
            value = line["value"]
            is_large = line["key"] == "lfsFile"
            content = (
                self._objects[value["oid"]] if is_large else base64.b64decode(value["content"])
            )
            files[value["path"]] = content
        paths = [line["value"]["path"] for line in lines[1:]]
        self.commits.append((lines[0]["value"]["summary"], paths))
        address = f"{self.endpoint}/{name}/commit/{COMMIT}"
        return send_json(request, {"commitUrl": address, "commitOid": COMMIT, "success": True})

    def _token(self, request: BaseHTTPRequestHandler) -> str:
        return request.headers.get("Authorization", "").removeprefix("Bearer ")


def _name(path: str) -> str:
    return "/".join(path.split("/")[3:5])


def _upload_mode(file: dict[str, str]) -> dict[str, object]:
    mode = "lfs" if file["path"].endswith(LFS_ENDINGS) else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}


def send_json(request: BaseHTTPRequestHandler, value: object, status: int = 200) -> None:
    send(request, status, json.dumps(value).encode(), True, {"Content-Type": "application/json"})
