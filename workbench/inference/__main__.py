"""Serve one run's models until stdin closes, which it does when the parent is gone."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import traceback
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.runs.store import open_run
from workbench.settings import Settings

TOKEN_VARIABLE = "WORKBENCH_CHAT_TOKEN"  # noqa: S105 - the name, not the token


def main(run_dir: Path) -> None:
    """Load the models, say on stdout where they answer (one JSON line), and serve."""
    token = os.environ.pop(TOKEN_VARIABLE)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        import uvicorn

        from workbench.inference.engine import Engine
        from workbench.inference.server import build_server

        run = open_run(run_dir)
        source = find_model(run.config.model, allow_folder=True)
        base_dir = ModelStore(Settings.from_environment()).ensure(source, lambda progress: None)
        server = build_server(Engine(run, base_dir), token)
    except Exception as error:  # the process boundary: the parent waits for one line
        traceback.print_exc()
        message = (
            str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        )
        print(json.dumps({"error": message}), flush=True)
        return
    with listen() as listener:
        print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
        uvicorn.Server(uvicorn.Config(server, log_level="warning")).run(sockets=[listener])


def listen() -> socket.socket:
    """Return a socket on a free port of loopback that takes connections already, before a server reads them."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def _exit_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
