"""The verb that serves a run's models to other programs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from workbench.chat import learned_model, served_models
from workbench.chat_server import SERVE_PORT, client_code, start_chat_server, why_ended
from workbench.errors import WorkbenchError
from workbench.runs.checkpoints import instead_words
from workbench.services import Services
from workbench.settings import LOOPBACK_HOSTS, Settings


def add_serve_verb(verbs: Any) -> None:
    """Describe the command to the parser."""
    serve = verbs.add_parser("serve", help="serve a run's models to other programs (OpenAI API)")
    serve.add_argument("run", metavar="RUN", help="the run's id, or latest")
    serve.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    serve.add_argument(
        "--port", type=int, default=SERVE_PORT, help=f"port (default: {SERVE_PORT}; 0: any)"
    )
    serve.add_argument("--json", action="store_true", help="print one JSON document")
    serve.set_defaults(run_command=run_serve)


def run_serve(services: Services, options: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    check_host(options.host, services.settings)
    run = services.runs.get(options.run)
    services.supervisor.check_free()
    server = start_chat_server(run, services.settings, host=options.host, port=options.port)
    server.wait_until_ready()
    shown_host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host  # noqa: S104
    base_url = f"http://{f'[{shown_host}]' if ':' in shown_host else shown_host}:{server.port}/v1"
    names = list(served_models(run))
    try:
        if options.json:
            told = {"run": run.id, "base_url": base_url, "api_key": server.token, "models": names}
            print(json.dumps(told), flush=True)
        else:
            print(f"{run.name}: {base_url}  (Ctrl-C ends it)")
            print(f"Models: {', '.join(names)}. In Python, after `pip install openai`:\n")
            if words := instead_words(run):
                print(f"{words}\n")
            print(client_code(base_url, server.token, learned_model(run)), flush=True)
        exit_code = server.process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.end()
    raise WorkbenchError(
        f"The server ended by itself. {why_ended(exit_code)}",
        f"The details are in {server.log_path}.",
    )


def check_host(host: str, settings: Settings) -> None:
    """Refuse to listen beyond this machine with a key that nobody chose.

    Raises:
        WorkbenchError: The host is not loopback and there is no key.
    """
    if host not in LOOPBACK_HOSTS and not settings.api_key:
        raise WorkbenchError(
            f"Listening on {host} lets everyone on your network try to ask your model.",
            "Choose a key first, for example WORKBENCH_API_KEY=choose-one, or leave the host at 127.0.0.1.",
        )
