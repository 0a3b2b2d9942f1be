"""What page and terminal share."""

from __future__ import annotations

import threading

import psutil


def test_whatever_goes_wrong_with_the_line_is_logged_and_it_is_looked_after_again(
    services, monkeypatch, capsys
):
    looked_again = threading.Event()
    failures = iter([psutil.TimeoutExpired(10), TypeError("list indices must be integers")])

    def advance(make_room):
        for failure in failures:
            raise failure
        looked_again.set()
        threading.Event().wait()  # the thread ends with the tests

    monkeypatch.setattr("workbench.services.LOOK_SECONDS", 0)
    monkeypatch.setattr(services.supervisor, "advance", advance)
    services.look_after_runs()
    assert looked_again.wait(10)
    told = capsys.readouterr().err
    assert "TimeoutExpired" in told
    assert "list indices must be integers" in told
