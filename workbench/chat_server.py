"""The chat process of a run: start it, wait until it answers, and say why it ended. Knows no torch."""

from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.processes import FREQUENT_RETURN, start_child
from workbench.runs.checkpoints import checkpoint_instead
from workbench.runs.store import Run
from workbench.settings import Settings

TOKEN_VARIABLE = "WORKBENCH_CHAT_TOKEN"  # noqa: S105 - the name, not the token
SERVE_PORT = 8000  # of `workbench serve`, unless another one is asked for
# Longer than in other processes: 29 tokens/s instead of 22 on 2 cores alone, 9 instead of 13 beside another such.
SPINS = "10000"
# Exit codes of a chat process: its run was deleted, a run began to train.
RUN_GONE, RUN_TRAINS = 4, 5


@dataclass
class ChatServer:
    """A process that serves the models of one run; it ends when this one does, or when it is idle.

    ``port`` is 0 until the models are loaded.
    """

    process: subprocess.Popen[bytes]
    run_id: str
    token: str = field(repr=False)
    log_path: Path
    port: int = 0

    @property
    def is_ready(self) -> bool:
        return self.port > 0 and self.process.poll() is None

    def wait_until_ready(self) -> None:
        """Wait until the models are loaded; takes seconds.

        Raises:
            WorkbenchError: They cannot be loaded, the port is taken, or the process was ended meanwhile.
        """
        answer = self._first_words() or {"error": why_ended(self.process.wait())}
        if "error" in answer:
            self.end()
            raise WorkbenchError(
                f"The model could not be loaded: {answer['error']}",
                f"The details are in {self.log_path}.",
            )
        self.port = answer["port"]

    def _first_words(self) -> dict[str, Any]:
        """Return the line that says where it answers, or why not; empty if it ends without."""
        for line in self.process.stdout or ():
            # Python may have printed something before the child had its say.
            with suppress(ValueError):
                words = json.loads(line)
                if isinstance(words, dict) and words.keys() & {"port", "error"}:
                    return words
        return {}

    def end(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


def start_chat_server(
    run: Run,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    idle_seconds: float = 0,
) -> ChatServer:
    """Load a run's models in a process of its own; ``wait_until_ready`` says when they are there.

    Args:
        run: A run with a saved model or a checkpoint.
        settings: Where the workspace is, and the token if the person chose one.
        host: The address to listen on.
        port: The port; 0 for a free one.
        idle_seconds: It ends itself after this long without a question; 0 for never.

    Raises:
        WorkbenchError: The run has no model.
    """
    if not run.model_dir.is_dir() and checkpoint_instead(run) is None:
        raise WorkbenchError(
            f'"{run.name}" has no model to chat with.', "Choose a run that has finished."
        )
    token = settings.api_key or secrets.token_urlsafe(32)
    log_path = chat_log_path(settings)
    options = {"--host": host, "--port": port, "--idle-seconds": idle_seconds}
    process = start_child(
        [
            "-m",
            "workbench.inference",
            str(run.directory),
            *(str(word) for option in options.items() for word in option),
        ],
        settings,
        log_path,
        # The token is never written to disk. Every token waits a thousand times for the other threads.
        environment={TOKEN_VARIABLE: token, "GOMP_SPINCOUNT": SPINS, **FREQUENT_RETURN},
        talk=True,
    )
    return ChatServer(process, run.id, token, log_path)


def why_ended(exit_code: int | None) -> str:
    """Return why a chat process ended, a sentence."""
    known = {
        0: "Nobody asked for a while, so the models gave their memory back.",
        RUN_GONE: "The run was deleted, so its models left the memory.",
        RUN_TRAINS: "A run began to train, so the models gave their memory back to it.",
    }
    return known.get(
        -1 if exit_code is None else exit_code,
        "The chat process ended unexpectedly; perhaps memory ran out.",
    )


def client_code(base_url: str, api_key: str, model: str = "tuned") -> str:
    """Return three lines of Python that ask a model."""
    return (
        "from openai import OpenAI\n"
        f'client = OpenAI(base_url="{base_url}", api_key="{api_key}")\n'
        f'print(client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": '
        '"Who are you?"}]).choices[0].message.content)'
    )


def chat_log_path(settings: Settings) -> Path:
    """Return the file that chat processes write their failures to."""
    return settings.logs_dir / "chat.log"


def why_left(server: ChatServer | None) -> str:
    """Say why a process that answers no more has ended, if it has and said so."""
    if server is None:
        return ""
    with suppress(subprocess.TimeoutExpired):  # its connections end a moment before it does
        server.process.wait(1)
    code = server.process.poll()
    return why_ended(code) if code in (0, RUN_GONE, RUN_TRAINS) else ""
