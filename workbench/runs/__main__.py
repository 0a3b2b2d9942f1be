"""``python -m workbench.runs PID``: when that training process has left, start the next run in line.

After the last one, the runs that have ended are evaluated. Every training process leaves one of these behind,
so the line moves on with no page and no terminal open.
"""

from __future__ import annotations

import sys
import time

import psutil

from workbench.runs.store import RunStore
from workbench.runs.supervisor import LEAVING_SECONDS, WAITING_SECONDS, Supervisor
from workbench.settings import Settings


def main(pid: int) -> None:
    """Wait for the process to end, then start what comes next."""
    deadline = time.monotonic() + LEAVING_SECONDS
    while not _has_left(pid) and time.monotonic() < deadline:
        time.sleep(WAITING_SECONDS)
    settings = Settings.from_environment()
    supervisor = Supervisor(settings, RunStore(settings))
    supervisor.advance()
    supervisor.evaluate_due()


def _has_left(pid: int) -> bool:
    """Say whether a process is gone; one that is only waited for by its parent has left, too."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


if __name__ == "__main__":
    main(int(sys.argv[1]))
