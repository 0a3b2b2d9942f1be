"""Talk to a run's models: which there are, and their answers as they are written. Knows no torch."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2

from workbench.chat_server import ChatServer, chat_log_path, start_chat_server, why_ended, why_left
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.models.thoughts import without_empty_thought
from workbench.presets import methods
from workbench.runs.checkpoints import checkpoint_instead, models_by_step
from workbench.runs.store import UNREADABLE, Run, open_run
from workbench.settings import Settings

ModelName = str  # a key of ``served_models``
IDLE_SECONDS = 600.0  # after this long without a question the models give their memory back
TURN_LOOK_SECONDS = 0.1
OTHER_RUN = "run-"  # and its id: what another run's model is called
MOST_OTHERS = 20  # of the newest runs


def served_models(run: Run) -> dict[ModelName, Path | None]:
    """Return what can be asked: the name and folder of each model; the base has none in the run.

    A run that saved no model has its checkpoints only. Other runs that tuned the same base in a way that fits
    are among them.
    """
    tuned = {"tuned": run.model_dir} if run.model_dir.is_dir() else {}
    steps = {f"step-{step}": directory for step, directory in models_by_step(run).items()}
    others = {f"{OTHER_RUN}{path.name}": path / "model" for path in _other_runs(run)}
    return {"base": None, **tuned, **steps, **others}


def learned_model(run: Run) -> ModelName:
    """Return the name of what a run learned: its saved model, or without one its newest checkpoint."""
    step = checkpoint_instead(run)
    return "tuned" if step is None else f"step-{step}"


def comparable_words(run: Run) -> str:
    """Say why no other run can be asked beside a run's models; empty where that is possible."""
    if methods()[run.config.method].mixable:
        return ""
    labels = [method.label for method in methods().values() if method.mixable]
    return (
        f"Other runs are not offered beside it: only those of {', '.join(labels[:-1])} and {labels[-1]} lie "
        f"beside each other on one copy of the base, and this one is {methods()[run.config.method].label}."
    )


def _other_runs(run: Run) -> list[Path]:
    """Return the directories of the newest runs whose adapters fit beside a run's."""
    if not methods()[run.config.method].mixable:
        return []
    tuned = (path.parent for path in run.directory.parent.glob("[0-9]*/model"))
    newest_first = sorted(tuned, key=lambda path: path.name, reverse=True)
    fitting = (path for path in newest_first if path.name != run.id and _fits(path, run))
    return list(islice(fitting, MOST_OTHERS))


def _fits(directory: Path, run: Run) -> bool:
    try:
        model, method = _tuned(directory)
    except UNREADABLE:  # made by a newer version, or deleted just now
        return False
    same_base = model == run.config.model and (
        methods()[run.config.method].base == methods()[method].base
    )
    return same_base and methods()[method].mixable


@lru_cache(maxsize=1000)
def _tuned(directory: Path) -> tuple[str, str]:
    """Return model and method of a run, which never change."""
    config = open_run(directory).config
    return config.model, config.method


@dataclass(frozen=True)
class Reply:
    """An answer so far.

    Attributes:
        text: All of it that is written.
        note: What was left out of the conversation; empty when nothing.
        finish_reason: ``stop`` or ``length`` once it is complete, ``stopped`` where the person ended it, else empty.
    """

    text: str = ""
    note: str = ""
    finish_reason: str = ""


class Stop:
    """Ends answers from another thread, also while nothing of them has come yet.

    Args:
        outer: Is heeded, too, and stays unset by this one; the connections are those of both.
    """

    def __init__(self, outer: Stop | None = None) -> None:
        self._is_set = threading.Event()
        self._outer = outer
        self._sockets: list[socket.socket] = outer._sockets if outer else []

    @property
    def is_set(self) -> bool:
        return self._is_set.is_set() or bool(self._outer and self._outer.is_set)

    def set(self) -> None:
        """End them: the connections are cut, and the model stops after the present token."""
        self._is_set.set()
        for connection in self._sockets:
            with suppress(OSError):  # it was at its end already
                connection.shutdown(socket.SHUT_RDWR)

    def reach(self, response: httpx2.Response) -> None:
        """Learn of a connection to cut."""
        self._sockets.append(response.extensions["network_stream"].get_extra_info("socket"))
        if self.is_set:
            self.set()


class ChatProcess:
    """At most one chat process, for one run at a time. It ends when this process does, and when idle.

    Args:
        settings: Where the workspace is.
        idle_seconds: It ends itself after this long without a question.
    """

    def __init__(self, settings: Settings, idle_seconds: float = IDLE_SECONDS) -> None:
        self._settings = settings
        self._idle_seconds = idle_seconds
        self._server: ChatServer | None = None
        self._opening = threading.Lock()  # held while models load; ``close`` does not wait for it
        self._changing = threading.Lock()
        self._turn = threading.Condition()
        self._users, self._used_run_id = 0, ""

    @property
    def run_id(self) -> str:
        """The run whose models are loaded, or an empty text."""
        server = self._server
        return server.run_id if server and server.is_ready else ""

    @property
    def users(self) -> int:
        """How many ask now, or wait for the models to load."""
        return self._users

    @property
    def why_gone(self) -> str:
        """Why the models that were loaded are no longer; a sentence."""
        server = self._server
        if server is None:
            return "The models gave their memory back, to a training run for example."
        return why_ended(server.process.poll())

    @contextmanager
    def using(self, run: Run, stop: Stop | None = None) -> Iterator[None]:
        """Load a run's models unless they are, and keep them until the block ends; takes seconds.

        Whoever asks another run's models waits until those who ask now have their answers.

        Args:
            run: A run with a saved model or a checkpoint.
            stop: Ends the waiting, and the loading if nobody else waits for it.

        Raises:
            WorkbenchError: The run has no model, it cannot be loaded, or it was stopped.
        """
        with self._turn:
            while self._users and self._used_run_id != run.id and not (stop and stop.is_set):
                self._turn.wait(TURN_LOOK_SECONDS)
            if stop and stop.is_set:
                raise WorkbenchError("Stopped.")
            self._users, self._used_run_id = self._users + 1, run.id
        try:
            self.open(run)
            yield
        finally:
            with self._turn:
                self._users -= 1
                self._turn.notify_all()

    def open(self, run: Run) -> None:
        """Load a run's models, unless they are loaded; takes seconds.

        Raises:
            WorkbenchError: The run has no model, it cannot be loaded, or something else needs the memory.
        """
        with self._opening:
            if self.run_id == run.id:
                return
            with self._changing:
                self._end()
                server = self._server = start_chat_server(
                    run, self._settings, idle_seconds=self._idle_seconds
                )
            try:
                server.wait_until_ready()
            except WorkbenchError:
                if self._server is server:
                    raise
                raise WorkbenchError(
                    "The models were not loaded: something that was started meanwhile needs the memory.",
                    "Ask again when it is done.",
                ) from None

    def close(self) -> None:
        """End the chat process and give its memory back, also while it loads."""
        with self._changing:
            self._end()

    def stop_loading(self) -> None:
        """End the chat process if it loads and only one waits for it."""
        server = self._server
        if server and not server.port and self._users == 1:
            self.close()

    def replies(
        self,
        model: ModelName,
        messages: Sequence[Message],
        *,
        stop: Stop | None = None,
        **sampling: Any,
    ) -> Iterator[Reply]:
        """Yield an answer as it grows, without an empty thought before it; ``open`` must come first.

        Args:
            model: Which one answers.
            messages: The conversation; ends on a user message.
            stop: Ends it from another thread; then the last one has what there is of it.
            **sampling: ``temperature``, ``top_p``, ``max_tokens``, ``seed`` as in the OpenAI API, and
                ``top_k``, ``repetition_penalty`` and ``strength``.

        Raises:
            WorkbenchError: The conversation is too long, or the process is gone.
        """
        text = note = ""
        try:
            for chunk in self._chunks(model, messages, sampling, stop):
                choice = chunk["choices"][0]
                note = chunk.get("workbench_note", note)
                text += choice["delta"].get("content") or ""
                yield Reply(without_empty_thought(text), note, choice["finish_reason"] or "")
        except WorkbenchError:
            if not (stop and stop.is_set):
                raise
        if stop and stop.is_set:
            yield Reply(without_empty_thought(text), note, "stopped")

    def prompt_text(self, messages: Sequence[Message], **sampling: Any) -> tuple[str, int, str]:
        """Return exactly what the model reads before it answers, its length in tokens, and a note.

        Raises:
            WorkbenchError: The conversation is too long, or the process is gone.
        """
        body = {"model": "tuned", "messages": list(messages), **sampling}
        with self._asked("workbench/prompt", body) as response:
            answer = json.loads(response.read())
        return answer["text"], answer["tokens"], answer["workbench_note"]

    def _chunks(
        self,
        model: ModelName,
        messages: Sequence[Message],
        sampling: dict[str, Any],
        stop: Stop | None = None,
    ) -> Iterator[dict[str, Any]]:
        body = {"model": model, "messages": list(messages), "stream": True, **sampling}
        with self._asked("chat/completions", body) as response:
            if stop is not None:
                stop.reach(response)
            for line in response.iter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        raise WorkbenchError(chunk["error"]["message"])
                    yield chunk

    @contextmanager
    def _asked(self, path: str, body: dict[str, Any]) -> Iterator[httpx2.Response]:
        server = self._server
        try:
            if server is None or not server.port:
                raise httpx2.ConnectError("it was not opened")
            with httpx2.stream(
                "POST",
                f"http://127.0.0.1:{server.port}/v1/{path}",
                json=body,
                headers={"Authorization": f"Bearer {server.token}"},
                # An answer may wait for others that are written whole; who does not want to wait presses Stop.
                timeout=httpx2.Timeout(10.0, read=None),
                trust_env=False,  # loopback must not go through a proxy
            ) as response:
                if response.is_error:
                    raise WorkbenchError(json.loads(response.read())["error"]["message"])
                yield response
        except httpx2.HTTPError as error:
            raise WorkbenchError(
                f"The chat process stopped answering. {why_left(server)}".rstrip(),
                "Send the message again: the models are loaded anew. If it happens twice, look into "
                f"{chat_log_path(self._settings)}.",
            ) from error

    def _end(self) -> None:
        if self._server is not None:
            self._server.end()
        self._server = None
