"""Serve one run's models until stdin closes, which it does when the parent is gone."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from workbench.chat_server import RUN_GONE, RUN_TRAINS, TOKEN_VARIABLE
from workbench.errors import WorkbenchError
from workbench.models.sources import source_of
from workbench.models.store import ModelStore
from workbench.processes import end_with_parent
from workbench.runs.store import Run, RunStore, open_run
from workbench.runs.supervisor import Supervisor
from workbench.settings import Settings

LOOKS_PER_LIMIT = 10
RUN_LOOK_SECONDS = 1.0


def main(options: argparse.Namespace) -> None:
    """Load the models, say on stdout where they answer (one JSON line), and serve."""
    told = _keep_stdout()
    token = os.environ.pop(TOKEN_VARIABLE)
    end_with_parent()
    try:
        listener = listen(options.host, options.port)  # before anything that takes long
        run, settings = open_run(options.run_dir), Settings.from_environment()
        threading.Thread(target=_leave_when_needed, args=(run, settings), daemon=True).start()

        import uvicorn

        from workbench.inference.engine import Engine
        from workbench.inference.server import build_server

        source = source_of(run.config)
        base_dir = ModelStore(settings).ensure(source, lambda progress: None)
        # All that computes is in one thread: with two, OpenMP thinks that there are more threads than cores, and
        # they no longer wait for each other actively (17 tokens/s instead of 30, libgomp 12).
        thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
        engine = thread.submit(Engine, run, base_dir).result()
        gate = build_server(engine, token, thread)
    except Exception as error:  # the process boundary: the parent waits for one line
        traceback.print_exc()
        message = (
            str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        )
        print(json.dumps({"error": message}), file=told, flush=True)
        return
    if options.idle_seconds:
        idle = (lambda: gate.idle_seconds, options.idle_seconds)
        threading.Thread(target=_exit_when_idle, args=idle, daemon=True).start()
    with listener:
        print(json.dumps({"port": listener.getsockname()[1]}), file=told, flush=True)
        uvicorn.Server(uvicorn.Config(gate, log_level="warning")).run(sockets=[listener])


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a socket that takes connections already, before a server reads them.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.

    Raises:
        WorkbenchError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise WorkbenchError(f"Port {port} on {host} cannot be used: {error.strerror}.") from error


def _keep_stdout() -> TextIO:
    """Return stdout for the one line the parent reads; what a library prints goes to the log instead."""
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return told


def _leave_when_needed(run: Run, settings: Settings) -> None:
    """Exit when the run was deleted, or when one trains: it needs the memory, whoever started it."""
    supervisor = Supervisor(settings, RunStore(settings))
    while True:
        if not run.directory.is_dir():
            os._exit(RUN_GONE)
        with suppress(OSError):  # a run is made or deleted just now; the next look is soon
            if supervisor.active_run():
                os._exit(RUN_TRAINS)
        time.sleep(RUN_LOOK_SECONDS)


def _exit_when_idle(idle_seconds: Callable[[], float], limit_seconds: float) -> None:
    while idle_seconds() < limit_seconds:
        time.sleep(limit_seconds / LOOKS_PER_LIMIT)
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--idle-seconds", type=float, default=0, help="0 for never")
    main(parser.parse_args())
