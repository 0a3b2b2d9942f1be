"""Child processes as they really are."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from workbench import processes
from workbench.processes import AUTOGROUP, start_child

POOLS = """
import ctypes, threading
from workbench.processes import share_memory_pools
{}
c = ctypes.CDLL(None)
barrier = threading.Barrier(8)
threads = [threading.Thread(target=lambda: (barrier.wait(), c.malloc(1000), barrier.wait())) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
c.malloc_stats()
"""
CODE = "from workbench.processes import *; {}; print(AUTOGROUP.read_text())"


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the system knows no scheduling of sessions")
@pytest.mark.parametrize(("code", "more"), [("go_last(7)", 7), ("os.nice(3); keep_niceness()", 3)])
def test_the_session_of_a_nice_child_is_nice(settings, code, more):
    child = start_child(["-c", CODE.format(code)], settings, settings.logs_dir / "x", talk=True)
    assert child.communicate()[0].split()[-1] == str(os.nice(0) + more).encode()


def test_a_system_without_niceness_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "AUTOGROUP", tmp_path / "none")
    monkeypatch.delattr(os, "nice")
    processes.go_last(7)
    processes.keep_niceness()
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other pools")
def test_threads_share_memory_pools():
    def pools(code):
        command = [sys.executable, "-c", POOLS.format(code)]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
        return done.stderr.count("Arena ")

    assert pools("share_memory_pools()") <= processes.MEMORY_POOLS < pools("")


def test_a_c_library_without_pools_is_left_alone(monkeypatch):
    monkeypatch.setattr(processes.ctypes, "CDLL", lambda name: object())
    processes.share_memory_pools()
