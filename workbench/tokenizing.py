"""How a model sees texts: start the tokenizer process and ask it. Knows no torch."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from workbench.data.formats import Message
from workbench.errors import StopRequested, WorkbenchError
from workbench.processes import start_child
from workbench.settings import Settings

IDLE_SECONDS = 300.0  # it holds some 400 MB, which training may need


@dataclass(frozen=True)
class TokenPreview:
    """One row as the trainer takes it.

    Attributes:
        pieces: The text of every token, and whether the loss counts it.
        tokens: How many.
        supervised_tokens: How many of them the loss counts.
        fate: ``kept`` as it is, ``cut`` to the maximum length, or ``dropped`` because it is longer.
    """

    pieces: list[tuple[str, bool]]
    tokens: int
    supervised_tokens: int
    fate: Literal["kept", "cut", "dropped"]


class TokenizerProcess:
    """At most one tokenizer process, for one model at a time. It ends when idle, and when we do.

    Args:
        settings: Where the workspace is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._model_dir: Path | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._idle: threading.Timer | None = None

    def count(self, model_dir: Path, conversations_path: Path) -> None:
        """Tokenize a dataset into its cache (``models.tokens.token_cache_path``); may take a minute.

        Leaves it uncounted when ``close`` is called meanwhile.

        Raises:
            WorkbenchError: The chat template refuses a row, or the process failed.
        """
        with suppress(StopRequested):
            self._ask(model_dir, {"conversations_path": str(conversations_path)})

    def preview(
        self, model_dir: Path, messages: Sequence[Message], limit_tokens: int, too_long: str
    ) -> TokenPreview:
        """Tokenize one row.

        Raises:
            WorkbenchError: The chat template refuses it, or the process failed.
        """
        request = {"messages": list(messages), "limit_tokens": limit_tokens, "too_long": too_long}
        try:
            answer = self._ask(model_dir, request)
        except StopRequested as error:
            raise WorkbenchError(
                "The row was not read, because a run needs the computer.", "Choose it again."
            ) from error
        pieces = [(text, is_supervised) for text, is_supervised in answer.pop("pieces")]
        return TokenPreview(pieces, **answer)

    def close(self) -> None:
        """End the process at once, whatever it does, and give its memory back."""
        self._closing.set()
        if (
            process := self._process
        ):  # whoever waits for its answer holds the lock, and now gets none
            process.kill()
        self._close_idle()
        self._closing.clear()

    def _close_idle(self) -> None:
        with self._lock:
            self._end()

    def _ask(self, model_dir: Path, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            if self._closing.is_set():
                raise StopRequested
            process = self._running(model_dir)
            if self._closing.is_set():
                process.kill()
            if self._idle:
                self._idle.cancel()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            if not line:
                self._end()
                if self._closing.is_set():
                    raise StopRequested
                raise WorkbenchError(
                    "The process that counts tokens ended.", f"The details are in {self._log_path}."
                )
            self._restart_idle_timer()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkbenchError(answer["error"], answer["hint"])
        return answer

    def _running(self, model_dir: Path) -> subprocess.Popen[bytes]:
        alive = self._process is not None and self._process.poll() is None
        if not alive or self._model_dir != model_dir:
            self._end()
            arguments = ["-m", "workbench.models.tokenizer_process", str(model_dir)]
            self._process = start_child(arguments, self._settings, self._log_path, talk=True)
            self._model_dir = model_dir
        assert self._process is not None
        return self._process

    @property
    def _log_path(self) -> Path:
        return self._settings.logs_dir / "tokenizer.log"

    def _restart_idle_timer(self) -> None:
        if self._idle:
            self._idle.cancel()
        self._idle = threading.Timer(IDLE_SECONDS, self._close_idle)
        self._idle.daemon = True
        self._idle.start()

    def _end(self) -> None:
        if self._idle:
            self._idle.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
