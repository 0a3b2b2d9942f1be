"""Child processes as they really are."""

from __future__ import annotations

import os

import pytest

from workbench import processes
from workbench.processes import AUTOGROUP, start_child

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
