"""Download a model from ModelScope by name: safetensors or one GGUF file, no code of the repository.

Its own client keeps a number that follows the person from session to session and reads a pickle of
cookies, so three of its HTTP calls are made here instead (modelscope-hub 0.5, ``_legacy_api.py``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from workbench.downloads import FetchProgress, Report, check_free_space
from workbench.errors import WorkbenchError
from workbench.hub import is_name
from workbench.models.hub import SPACE_HINT, HubModel, read_architecture, wanted_files
from workbench.settings import modelscope_access

BRANCH = "master"
TIMEOUT_SECONDS = 20
REPORT_SECONDS = 0.5


def look_up_on_modelscope(repository: str, file: str, token: str = "") -> HubModel:
    """Ask ModelScope about a model.

    Args:
        repository: ``owner/name``.
        file: The GGUF file to take; empty for the safetensors and what belongs to them.
        token: Access token; empty for the one in ``MODELSCOPE_API_TOKEN``, if any.

    Raises:
        WorkbenchError: No such model, no safetensors, or no network.
    """
    with _explained(repository), _client(token) as client:
        about = _data(client.get(f"models/{repository}"))
        files = wanted_files(
            repository, file, {name: entry["Size"] for name, entry in _files(client, repository)}
        )
        architecture: Mapping[str, Any] = {}
        if "config.json" in files:
            answer = client.get(f"models/{repository}/repo", params=_named("config.json"))
            architecture = read_architecture(answer.text) if answer.is_success else {}
    licence = about.get("License")
    return HubModel(BRANCH, files, licence if isinstance(licence, str) else "", False, architecture)


def fetch_from_modelscope(repository: str, file: str, directory: Path, report: Report) -> None:
    """Download one repository into ``directory``; an interrupted download is taken up where it ended.

    Raises:
        WorkbenchError: No such model, no safetensors, no room, no network, or a file that is not as promised.
    """
    with _explained(repository), _client() as client:
        entries = dict(_files(client, repository))
        sizes = wanted_files(
            repository, file, {name: entry["Size"] for name, entry in entries.items()}
        )
        total_bytes = sum(sizes.values())
        check_free_space(repository, total_bytes, directory, SPACE_HINT)
        before, told = 0, 0.0
        for name, size in sizes.items():
            if not (directory / name).exists():
                for done in _fetch(client, repository, directory / name, entries[name]):
                    if time.monotonic() > told + REPORT_SECONDS:
                        told = time.monotonic()
                        report(FetchProgress("downloading", before + done, total_bytes))
            before += size


def _fetch(
    client: httpx2.Client, repository: str, path: Path, entry: Mapping[str, Any]
) -> Iterator[int]:
    """Download one file, and yield the bytes that are there; it has its name once it is whole and right."""
    partial = path.with_name(path.name + ".incomplete")
    start = partial.stat().st_size if partial.exists() else 0
    if start < entry["Size"]:
        with client.stream(
            "GET",
            f"models/{repository}/repo",
            params=_named(path.name),
            headers={"Range": f"bytes={start}-"} if start else {},
        ) as answer:
            answer.raise_for_status()
            start = start if answer.status_code == httpx2.codes.PARTIAL_CONTENT else 0
            with partial.open("ab" if start else "wb") as target:
                for chunk in answer.iter_bytes():
                    start += target.write(chunk)
                    yield start
    partial.touch()  # an empty file
    _check(partial, path.name, entry)
    partial.rename(path)


def _check(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if path.stat().st_size != entry["Size"] or found != (entry.get("Sha256") or found):
        path.unlink()
        raise WorkbenchError(
            f"{name} came from ModelScope, but not as it should be, so it was deleted.",
            "Try again; if it happens twice, your proxy changes files.",
        )


def _files(client: httpx2.Client, repository: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the files at the top of a repository; one whose name could be a path is none of them."""
    found = client.get(
        f"models/{repository}/repo/files", params={"Revision": BRANCH, "Recursive": "False"}
    )
    for entry in _data(found).get("Files") or []:
        name = str(entry.get("Path", ""))
        if entry.get("Type") != "tree" and is_name(name) and isinstance(entry.get("Size"), int):
            yield name, entry


def _named(file: str) -> dict[str, str]:
    return {"Revision": BRANCH, "FilePath": file}


def _data(answer: httpx2.Response) -> dict[str, Any]:
    answer.raise_for_status()
    data = answer.json().get("Data")
    return data if isinstance(data, dict) else {}


def _client(token: str = "") -> httpx2.Client:
    endpoint, known_token = modelscope_access()
    token = token or known_token
    return httpx2.Client(
        base_url=f"{endpoint}/api/v1/",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        follow_redirects=True,
        timeout=TIMEOUT_SECONDS,
    )


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn what goes wrong into sentences."""
    try:
        yield
    except httpx2.HTTPStatusError as error:
        code = error.response.status_code
        if code == httpx2.codes.NOT_FOUND:
            raise WorkbenchError(
                f"There is no model {repository} on ModelScope (or it is private).",
                "Check the spelling: modelscope:owner/name, as in modelscope:Qwen/Qwen3-0.6B.",
            ) from error
        if code in (httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN):
            raise WorkbenchError(
                f"ModelScope does not give {repository} to everybody.",
                f"Open https://modelscope.cn/models/{repository}, ask for it there, and type your access token "
                "in under Models on this computer, or start the workbench with MODELSCOPE_API_TOKEN set to it.",
            ) from error
        raise WorkbenchError(
            f"ModelScope answered {code} when asked for {repository}.", "Try again later."
        ) from error
    except (httpx2.HTTPError, ValueError) as error:
        raise WorkbenchError(
            f"{repository} could not be downloaded from ModelScope.",
            "Check the network connection (and MODELSCOPE_ENDPOINT or the proxy), then try again.",
        ) from error
