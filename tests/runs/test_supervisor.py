"""Real processes, with a scripted trainer in place of the real one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.made_runs import DATA
from tests.waiting import wait_until
from workbench.config import build_config
from workbench.errors import WorkbenchError
from workbench.runs.store import RunStore
from workbench.runs.supervisor import STOP_DEADLINE_SECONDS, Supervisor

FAKE = ("-m", "tests.fake_trainer")


@pytest.fixture
def store(settings):
    return RunStore(settings)


@pytest.fixture
def supervisor(settings, store):
    supervisor = Supervisor(settings, store, trainer=FAKE)
    yield supervisor
    active = supervisor.active_run()
    if active:
        supervisor.kill(active)


def create(store, script):
    return store.create(build_config(), DATA, script, {}, None)


def test_a_run_goes_from_start_to_finish(store, supervisor):
    run = create(store, "finish")
    supervisor.start(run)
    assert supervisor.snapshot(run).state in ("starting", "running", "finished")
    assert supervisor.wait(run, 15)
    assert supervisor.snapshot(run).state == "finished"
    assert supervisor.snapshot(run).model_saved


def test_a_crash_is_seen_as_lost(store, supervisor):
    run = create(store, "crash")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).state == "lost")


def test_stop_ends_at_the_next_step(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).step > 2)
    supervisor.request_stop(run)
    wait_until(lambda: not supervisor.snapshot(run).is_active)
    snapshot = supervisor.snapshot(run)
    assert snapshot.state == "stopped"
    assert f"after step {snapshot.step}" in snapshot.message


def test_kill_ends_what_does_not_listen(store, supervisor):
    run = create(store, "hang")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).state == "running")
    supervisor.kill(run)
    assert supervisor.snapshot(run).state == "stopped"
    assert supervisor.active_run() is None


def test_a_new_server_finds_the_running_process_again(settings, store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).step > 0)
    other = Supervisor(settings, RunStore(settings), trainer=FAKE)
    assert other.active_run() == run
    assert other.snapshot(run).state == "running"
    other.request_stop(run)
    wait_until(lambda: other.snapshot(run).state == "stopped")


def test_a_run_outlives_the_process_that_started_it(settings, store, supervisor):
    run = create(store, "steps")
    code = (
        "from workbench.settings import Settings; from workbench.runs.store import RunStore;"
        "from workbench.runs.supervisor import STOP_DEADLINE_SECONDS, Supervisor;"
        "s = Settings.from_environment(); r = RunStore(s);"
        f"Supervisor(s, r, trainer={FAKE!r}).start(r.get({run.id!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    wait_until(lambda: supervisor.snapshot(run).step > 2)
    assert supervisor.snapshot(run).state == "running"


def test_another_process_with_the_same_pid_is_not_ours(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    recorded = json.loads(run.process_path.read_text())
    supervisor.kill(run)
    run.stop_path.unlink()
    run.process_path.write_text(json.dumps(recorded | {"pid": 1}))
    assert supervisor.snapshot(run).state == "lost"


@pytest.mark.parametrize("torn", ["", "{", "[]", "{}", '{"pid": null}'])
def test_a_torn_process_file_is_a_process_that_is_gone(store, supervisor, torn):
    run = create(store, "finish")
    run.process_path.write_text(torn)
    assert supervisor.active_run() is None
    assert supervisor.snapshot(run).state == "lost"


def test_a_clock_that_was_set_does_not_lose_a_run(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    recorded = json.loads(run.process_path.read_text())
    run.process_path.write_text(
        json.dumps(recorded | {"create_time": recorded["create_time"] - 25})
    )
    assert supervisor.snapshot(run).is_active


def test_one_run_trains_and_the_others_wait_in_line(store, supervisor):
    first, second, third = (create(store, "steps") for _ in range(3))
    for run in (first, second, third):
        supervisor.start(run)
    assert supervisor.active_run() == first
    assert [supervisor.snapshot(run).place for run in (first, second, third)] == [None, 1, 2]
    assert supervisor.snapshot(third).state == "queued"
    with pytest.raises(WorkbenchError, match="still training"):
        supervisor.check_free()


def test_the_next_in_line_begins_when_the_device_is_free(store, supervisor):
    first, second = create(store, "finish"), create(store, "finish")
    supervisor.start(first)
    supervisor.start(second)

    def both_finished():
        supervisor.advance()
        return [supervisor.snapshot(run).state for run in (first, second)] == ["finished"] * 2

    wait_until(both_finished)
    assert supervisor.line() == []


def test_the_line_survives_a_restart_and_can_be_reordered(settings, store, supervisor):
    runs = [create(store, "steps") for _ in range(4)]
    for run in runs:
        supervisor.start(run)
    other = Supervisor(settings, RunStore(settings), trainer=FAKE)
    assert other.line() == runs[1:]
    other.move(runs[3], -1)
    assert supervisor.line() == [runs[1], runs[3], runs[2]]
    other.move(runs[1], 99)
    assert supervisor.line() == [runs[3], runs[2], runs[1]]
    other.move(runs[0], -1)  # it trains
    assert supervisor.line() == [runs[3], runs[2], runs[1]]


def test_a_run_can_leave_the_line_and_come_back(store, supervisor):
    first, second = create(store, "steps"), create(store, "steps")
    supervisor.start(first)
    supervisor.start(second)
    supervisor.request_stop(second)
    snapshot = supervisor.snapshot(second)
    assert (snapshot.state, snapshot.can_resume) == ("stopped", True)
    assert "taken out of the line" in snapshot.message
    supervisor.resume(second)
    assert supervisor.snapshot(second).state == "queued"


def test_a_killed_run_goes_on(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).step > 2)
    supervisor.kill(run)
    reached = supervisor.snapshot(run).step
    supervisor.resume(run)
    wait_until(lambda: supervisor.snapshot(run).step > reached)
    assert supervisor.snapshot(run).state == "running"


def test_what_has_finished_or_still_trains_cannot_go_on(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    with pytest.raises(WorkbenchError, match=r"cannot go on: it is (starting|running)"):
        supervisor.resume(run)
    supervisor.kill(run)
    finished = create(store, "finish")
    supervisor.start(finished)
    supervisor.wait(finished, 15)
    with pytest.raises(WorkbenchError, match="cannot go on: it is finished"):
        supervisor.resume(finished)


def test_ending_a_run_that_leaves_does_not_end_the_one_after_it(store, supervisor):
    run = create(store, "leave")
    supervisor.start(run)
    wait_until((run.directory / "children").exists)
    wait_until(lambda: supervisor.snapshot(run).state == "running")
    helper, successor = map(
        psutil.Process, map(int, (run.directory / "children").read_text().split())
    )
    supervisor.kill(run)
    helper.wait(10)
    assert successor.is_running()
    successor.kill()


def test_no_run_begins_beside_a_test_drive(store, supervisor):
    run = create(store, "finish")
    made = []
    with supervisor.test_drive(lambda: made.append("room")):
        assert supervisor.is_driving()
        supervisor.start(run)
        supervisor.advance(lambda: made.append("too early"))
        assert (supervisor.snapshot(run).state, supervisor.snapshot(run).place) == ("queued", 1)
        with pytest.raises(WorkbenchError, match="Another test drive"), supervisor.test_drive():
            pass
    assert not supervisor.is_driving()
    assert supervisor.line() == []  # its turn came by itself
    assert made == ["room"]
    assert supervisor.wait(run, 15)


def test_there_is_no_test_drive_beside_a_run(store, supervisor):
    supervisor.start(create(store, "steps"))
    with pytest.raises(WorkbenchError, match="still training"), supervisor.test_drive():
        pass
    assert not supervisor.is_driving()


def test_a_process_that_cannot_be_started_is_told_and_does_not_block_the_line(
    settings, store, monkeypatch
):
    supervisor = Supervisor(settings, store, trainer=FAKE)
    run = create(store, "finish")

    def fail(*args, **kwargs):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("workbench.runs.supervisor.start_child", fail)
    supervisor.start(run)
    assert supervisor.snapshot(run).state == "failed"
    assert "Cannot allocate memory" in supervisor.snapshot(run).message
    assert supervisor.line() == []


def test_a_run_that_does_not_answer_to_stop_is_ended(store, supervisor, monkeypatch):
    run = create(store, "hang")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).state == "running")
    supervisor.request_stop(run)
    supervisor.advance()
    assert supervisor.snapshot(run).state == "stopping"
    monkeypatch.setattr("workbench.runs.supervisor.STOP_DEADLINE_SECONDS", -1)
    supervisor.advance()
    assert supervisor.snapshot(run).state == "stopped"
    assert "No checkpoint was saved yet" in supervisor.snapshot(run).message


@pytest.mark.parametrize("also_event", [False, True])
def test_a_run_that_cannot_be_written_down_is_ended_and_does_not_block_the_line(
    store, supervisor, monkeypatch, also_event
):
    """As on a full disk; else a process more would be started at every look."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = create(store, "hang")
    monkeypatch.setattr("workbench.runs.supervisor.write_json", full)
    if also_event:
        monkeypatch.setattr("workbench.runs.supervisor.append_event", full)
    supervisor.start(run)
    assert supervisor.line() == []
    child = supervisor._children[run.id]
    assert child.wait(timeout=10) == -9
    supervisor.advance()
    assert supervisor._children.get(run.id) in (None, child)
    if not also_event:
        assert "No space left" in supervisor.snapshot(run).message


def test_a_clock_that_was_set_ends_no_run_that_shall_stop(store, supervisor):
    run = create(store, "hang")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).state == "running")
    supervisor.request_stop(run)
    long_ago = time.time() - 10 * STOP_DEADLINE_SECONDS
    for path in (run.stop_path, run.events_path):
        os.utime(path, (long_ago, long_ago))
    supervisor.advance()
    assert supervisor.snapshot(run).state == "stopping"


@pytest.mark.parametrize("torn", ["[]", "{}", "", '{"place": null}'])
def test_a_torn_place_in_the_line_is_the_first(store, supervisor, torn):
    runs = [create(store, "steps") for _ in range(3)]
    for run in runs:
        supervisor.start(run)
    runs[2].waiting_path.write_text(torn)
    assert supervisor.line() == [runs[2], runs[1]]


def test_a_run_that_trains_is_looked_after_without_the_lock(store, supervisor):
    first, second = create(store, "steps"), create(store, "steps")
    supervisor.start(first)
    supervisor.start(second)
    asked = []
    with supervisor._lock():  # it would wait for this
        looking = threading.Thread(
            target=supervisor.advance, args=[lambda: asked.append(1)], daemon=True
        )
        looking.start()
        looking.join(5)
        assert not looking.is_alive()
    assert not asked


def test_room_is_made_before_the_next_in_line_begins(store, supervisor):
    supervisor.advance(pytest.fail)  # nothing waits
    first, second = create(store, "steps"), create(store, "steps")
    supervisor.start(first)
    supervisor.start(second)
    supervisor.kill(first)
    found = []
    supervisor.advance(lambda: found.append(supervisor.active_run()))
    assert found == [None]
    assert supervisor.active_run() == second


def test_a_summary_says_what_a_snapshot_says(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    wait_until(lambda: supervisor.snapshot(run).step > 5)
    supervisor.kill(run)
    whole, short = supervisor.snapshot(run), supervisor.summary(run)
    assert (whole.state, whole.step, whole.message) == (short.state, short.step, short.message)
    assert len(short.steps) == 1 < len(whole.steps)


def test_two_servers_start_one_process_for_a_line(settings, store, supervisor):
    runs = [create(store, "steps") for _ in range(3)]
    supervisors = [Supervisor(settings, RunStore(settings), trainer=FAKE) for _ in range(3)]
    threads = [
        threading.Thread(target=each.start, args=[run])
        for each, run in zip(supervisors, runs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alive = [run for run in runs if supervisor.snapshot(run).state in ("starting", "running")]
    assert len(alive) == 1
    assert len(supervisor.line()) == 2


def test_two_tabs_pressing_start_together_make_one_process(settings, store, supervisor):
    run = create(store, "steps")
    errors = []

    def press():
        try:
            Supervisor(settings, store, trainer=FAKE).start(run)
        except WorkbenchError as error:
            errors.append(error)

    threads = [threading.Thread(target=press) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 3


def test_a_finished_run_cannot_be_started_again(store, supervisor):
    run = create(store, "finish")
    supervisor.start(run)
    supervisor.wait(run, 15)
    with pytest.raises(WorkbenchError, match="started already"):
        supervisor.start(run)
