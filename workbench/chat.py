"""Talk to a run's models: start the chat process, and stream its answers. Knows no torch."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx2

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.processes import start_child
from workbench.runs.store import Run
from workbench.settings import Settings

ModelName = Literal["base", "tuned"]


class ChatProcess:
    """At most one chat process, for one run at a time. It ends when this process does.

    Args:
        settings: Where the workspace is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._token = secrets.token_urlsafe(32)  # passed by environment, never written to disk
        self._process: subprocess.Popen[bytes] | None = None
        self._run_id = ""
        self._port = 0
        self._lock = threading.Lock()

    @property
    def run_id(self) -> str:
        """The run whose models are loaded, or an empty text."""
        return self._run_id if self._process and self._process.poll() is None else ""

    def open(self, run: Run) -> None:
        """Load a run's models, unless they are loaded; takes seconds.

        Raises:
            WorkbenchError: The run saved no model, or it cannot be loaded.
        """
        with self._lock:
            if self.run_id == run.id:
                return
            self._end()
            if not run.model_dir.is_dir():
                raise WorkbenchError(
                    f'"{run.name}" has no model to chat with.', "Choose a run that has finished."
                )
            self._start(run)

    def close(self) -> None:
        """End the chat process and give its memory back."""
        with self._lock:
            self._end()

    def stream(
        self, model: ModelName, messages: Sequence[Message], **sampling: Any
    ) -> Iterator[str]:
        """Yield an answer piece by piece; ``open`` must come first.

        Args:
            model: Which one answers.
            messages: The conversation; ends on a user message.
            **sampling: ``temperature``, ``top_p``, ``max_tokens``, ``seed`` as in the OpenAI API.

        Raises:
            WorkbenchError: The conversation is too long, or the process is gone.
        """
        body = {"model": model, "messages": list(messages), "stream": True, **sampling}
        try:
            with httpx2.stream(
                "POST",
                f"http://127.0.0.1:{self._port}/v1/chat/completions",
                json=body,
                headers={"Authorization": f"Bearer {self._token}"},
                timeout=httpx2.Timeout(10.0, read=600.0),
                trust_env=False,  # loopback must not go through a proxy
            ) as response:
                if response.is_error:
                    raise WorkbenchError(_error_text(response))
                yield from _pieces(response)
        except httpx2.HTTPError as error:
            raise WorkbenchError(
                "The chat process stopped answering.",
                f"Send the message again; if it happens twice, look into {self._log_path}.",
            ) from error

    @property
    def _log_path(self) -> Path:
        return self._settings.logs_dir / "chat.log"

    def _start(self, run: Run) -> None:
        process = start_child(
            ["-m", "workbench.inference", str(run.directory)],
            self._settings,
            self._log_path,
            environment={"WORKBENCH_CHAT_TOKEN": self._token},
            talk=True,
        )
        assert process.stdout is not None
        answer = json.loads(process.stdout.readline() or b'{"error": "it ended while loading"}')
        if "error" in answer:
            process.kill()
            process.wait()
            raise WorkbenchError(
                f"The model could not be loaded: {answer['error']}",
                f"The details are in {self._log_path}.",
            )
        self._process, self._run_id, self._port = process, run.id, answer["port"]

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process, self._run_id = None, ""


def _pieces(response: httpx2.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            raise WorkbenchError(chunk["error"]["message"])
        if text := chunk["choices"][0]["delta"].get("content"):
            yield text


def _error_text(response: httpx2.Response) -> str:
    body = json.loads(response.read())
    return str(body.get("error", {}).get("message") or body.get("detail") or response.status_code)
