"""``python -m workbench.runs PID``: when that training process has left, start the next run in line.

After the last one, the runs that have ended are evaluated. Every training process leaves one of these behind,
so the line moves on with no page and no terminal open.
"""

from __future__ import annotations

import contextlib
import sys

import psutil

from workbench.runs.store import RunStore
from workbench.runs.supervisor import LEAVING_SECONDS, Supervisor
from workbench.settings import Settings


def main(pid: int) -> None:
    """Wait for the process to end, then start what comes next."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(pid).wait(timeout=LEAVING_SECONDS)
    settings = Settings.from_environment()
    supervisor = Supervisor(settings, RunStore(settings))
    supervisor.advance()
    supervisor.evaluate_due()


if __name__ == "__main__":
    main(int(sys.argv[1]))
