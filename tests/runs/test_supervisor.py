"""Real processes, with a scripted trainer in place of the real one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest

from workbench.config import build_config
from workbench.errors import WorkbenchError
from workbench.runs.store import DataPart, DataReference, RunStore
from workbench.runs.supervisor import Supervisor

PART = DataPart("d", "d.json", "/nowhere/d.jsonl", "0" * 64, 8)
DATA = DataReference((PART,), None, 0.0, 42)
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


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def test_a_run_goes_from_start_to_finish(store, supervisor):
    run = create(store, "finish")
    assert supervisor.snapshot(run).state == "queued"
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
        "from workbench.runs.supervisor import Supervisor;"
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


def test_a_clock_that_was_set_does_not_lose_a_run(store, supervisor):
    run = create(store, "steps")
    supervisor.start(run)
    recorded = json.loads(run.process_path.read_text())
    run.process_path.write_text(
        json.dumps(recorded | {"create_time": recorded["create_time"] - 25})
    )
    assert supervisor.snapshot(run).is_active


def test_one_run_trains_at_a_time_and_the_second_gets_a_sentence(store, supervisor):
    first, second = create(store, "steps"), create(store, "steps")
    supervisor.start(first)
    with pytest.raises(WorkbenchError, match="still training"):
        supervisor.start(second)
    assert supervisor.snapshot(second).state == "queued"


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
