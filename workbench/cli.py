"""The same verbs as the page, for scripts, tests and other machines.

Exit codes: 0 done; 1 the run failed or was lost; 2 wrong input or usage; 3 the run was stopped
before its end; 130 interrupted; 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from workbench import __version__
from workbench.cli_answer import add_answer_verb
from workbench.cli_chat import add_chat_verb
from workbench.cli_data import add_data_verbs
from workbench.cli_evaluate import add_evaluate_verb
from workbench.cli_export import add_export_verb
from workbench.cli_hub import add_hub_verb
from workbench.cli_models import add_models_verb
from workbench.cli_runs import add_run_verbs
from workbench.cli_serve import add_serve_verb
from workbench.cli_training import add_training_verbs
from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.settings import Settings, prepare_page_environment


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _write_utf8()
    options = build_parser().parse_args(arguments)
    try:
        code: int = options.run_command(
            Services.for_workspace(Settings.from_environment()), options
        )
        sys.stdout.flush()
    except WorkbenchError as error:
        print(f"workbench: {error.message}", file=sys.stderr)
        if error.hint:
            print(error.hint, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a folder that is not one's own, a full disk
        where = f" ({error.filename})" if error.filename else ""
        print(f"workbench: {error.strerror or error}{where}", file=sys.stderr)
        return 2
    return code


def _write_utf8() -> None:
    """Let files and other programs have UTF-8 on Windows, too; a terminal keeps what it can show."""
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")


def build_parser() -> argparse.ArgumentParser:
    """Describe the commands."""
    parser = argparse.ArgumentParser(prog="workbench", description="Fine-tune a small chat model.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    ui = verbs.add_parser("ui", help="open the workbench in the browser")
    ui.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    ui.add_argument("--port", type=int, help="port to listen on (default: 7860)")
    ui.add_argument("--open", action="store_true", help="open the page in your browser")
    ui.set_defaults(run_command=run_ui)

    add_training_verbs(verbs)
    add_data_verbs(verbs)
    add_hub_verb(verbs)
    add_models_verb(verbs)

    add_run_verbs(verbs)
    add_evaluate_verb(verbs)
    add_answer_verb(verbs)
    add_export_verb(verbs)

    add_chat_verb(verbs)
    add_serve_verb(verbs)
    return parser


def run_ui(services: Services, options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    settings = services.settings.with_address(options.host, options.port)
    prepare_page_environment(settings)
    from workbench.ui.app import serve  # only this verb needs gradio, which takes seconds to import

    serve(Services.for_workspace(settings), open_browser=options.open)
    return 0
