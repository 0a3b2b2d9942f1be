from __future__ import annotations

import threading

import pytest
from filelock import FileLock

from workbench.child_progress import LOCK
from workbench.evaluation import __main__ as child
from workbench.evaluation.process import STOP


@pytest.fixture
def begin(monkeypatch, tmp_path):
    """Start a child's ``main`` in a thread; return the thread and what it worked on."""
    monkeypatch.setattr(child, "LOCK_SECONDS", 0.05)
    worked = []
    monkeypatch.setattr(child, "_work", lambda *paths: worked.append(paths) or 0)

    def begin():
        thread = threading.Thread(target=child.main, args=(tmp_path, tmp_path / "request.json"))
        thread.start()
        return thread, worked

    return begin


def test_a_request_waits_for_the_one_before_that_was_asked_to_stop(begin, tmp_path):
    (tmp_path / STOP).touch()
    with FileLock(tmp_path / LOCK):
        thread, worked = begin()
        thread.join(0.3)
        assert thread.is_alive()
    thread.join(5)
    assert worked


def test_a_second_process_for_the_same_request_leaves(begin, tmp_path):
    with FileLock(tmp_path / LOCK):
        thread, worked = begin()
        thread.join(5)
        assert not thread.is_alive()
    assert not worked
