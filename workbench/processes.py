"""Start a child process: the one way in which training, chat and downloads come to life."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.settings import Settings, child_environment, ensure_dir

# Ctrl-C in the terminal of the page must not reach a child: Windows needs this flag for it, POSIX a
# session of its own, in which the child also outlives the terminal.
NEW_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)

# glibc moves this threshold up to 32 MB by itself and then keeps freed tensors; a fixed one hands them back.
FREQUENT_RETURN = {"MALLOC_MMAP_THRESHOLD_": "1048576"}
AUTOGROUP = Path("/proc/self/autogroup")

MEMORY_POOLS = 2
M_ARENA_MAX = -8  # of glibc's malloc.h: the number of pools


def start_child(
    arguments: Sequence[str],
    settings: Settings,
    log_path: Path,
    *,
    environment: Mapping[str, str] | None = None,
    talk: bool = False,
) -> subprocess.Popen[bytes]:
    """Start ``python ARGUMENTS`` in the same workspace, detached from our terminal.

    Args:
        arguments: What follows ``python``, for example ``["-m", "workbench.training", DIR]``.
        settings: Where the workspace is.
        log_path: Where stderr goes, and stdout unless ``talk``. Appended to.
        environment: Added to the child's environment; the place for secrets.
        talk: Give the child pipes as stdin and stdout. It must end when stdin closes.
    """
    ensure_dir(log_path.parent)
    with log_path.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE if talk else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talk else log,
            stderr=log,
            env={
                **child_environment(),
                "WORKBENCH_HOME": str(settings.home_dir),
                **(environment or {}),
            },
            start_new_session=True,
            creationflags=NEW_GROUP,
        )


def go_last(niceness: int) -> None:
    """Let whatever else runs on the computer go first.

    Args:
        niceness: As of the ``nice`` command, 1 to 19; nothing happens where there is no such thing.
    """
    if hasattr(os, "nice"):
        os.nice(niceness)
        keep_niceness()


def keep_niceness() -> None:
    """Make a niceness that came from the parent count in a session of one's own.

    Linux first shares the processor among sessions, each of which begins with niceness 0, whatever its
    processes have (``man 7 sched``, "The autogroup feature").
    """
    if AUTOGROUP.exists():
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(os.nice(0)), encoding="ascii")


def end_with_parent() -> None:
    """From now on, end this process when its stdin closes: the system does that when the parent is gone."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    sys.stdin.read()
    os._exit(0)


def share_memory_pools() -> None:
    """Let all threads of this process take their memory from few pools.

    By itself glibc opens up to eight per processor, so that threads need not wait for each other, and what one
    of them has freed stays in its pool: of 50 opened pages a web server kept 406 MB, with two pools 289.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, MEMORY_POOLS)
