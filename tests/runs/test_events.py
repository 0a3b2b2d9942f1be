import json
import subprocess
import sys

import pytest

from tests.made_runs import make_run
from workbench.runs import supervisor as supervisor_module
from workbench.runs.events import (
    EVENT_KINDS,
    StepEvent,
    WarningEvent,
    append_event,
    end_torn_line,
    read_events,
    skim_events,
)
from workbench.services import Services

STEP = {
    "step": 1, "epoch": 0.5, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 1.0, "tokens": 10,
    "seconds": 1.0, "memory_bytes": 5,
}  # fmt: skip


def test_events_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "events.jsonl"
    written = [StepEvent(**STEP), WarningEvent(message="Zeilen\nmit ü")]
    for event in written:
        append_event(path, event)
    assert read_events(path)[0] == written
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["kind"] for record in records] == ["step", "warning"]
    assert all(isinstance(record["time"], float) for record in records)


def test_reading_goes_on_where_it_ended_and_waits_for_a_whole_line(tmp_path):
    path = tmp_path / "events.jsonl"
    append_event(path, WarningEvent(message="one"))
    events, offset = read_events(path)
    with path.open("a") as file:
        file.write('{"kind": "warning", "ti')
    assert read_events(path, offset) == ([], offset)
    with path.open("a") as file:
        file.write('me": 1.0, "message": "two"}\n')
    events, _ = read_events(path, offset)
    assert [event.message for event in events] == ["two"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_written_as_null(tmp_path, value):
    append_event(tmp_path / "e", StepEvent(**STEP | {"loss": value}))
    assert "NaN" not in (tmp_path / "e").read_text()
    assert read_events(tmp_path / "e")[0][0].loss is None


def test_kinds_and_fields_of_a_newer_version_are_skipped(tmp_path):
    (tmp_path / "e").write_text(
        '{"kind": "teleport", "time": 1}\n{"kind": "warning", "time": 1, "message": "m", "colour": 3}\n'
    )
    assert read_events(tmp_path / "e")[0] == [WarningEvent(time=1, message="m")]


@pytest.mark.parametrize(
    "damaged",
    [
        '{"kind": "step", "st',
        "[1, 2]",
        "null",
        '{"time": 1}',
        '{"kind": "step"}',
        "\x00\x00\x00",
        "{}",
    ],
)
def test_a_damaged_line_is_passed_over(tmp_path, damaged):
    path = tmp_path / "e"
    append_event(path, WarningEvent(message="before"))
    with path.open("a") as file:
        file.write(damaged + "\n")
    append_event(path, WarningEvent(message="after"))
    assert [event.message for event in read_events(path)[0]] == ["before", "after"]


def test_after_a_torn_line_the_next_event_has_its_own(tmp_path):
    path = tmp_path / "e"
    end_torn_line(path)  # there is none yet
    path.write_text('{"kind": "warning", "ti')
    end_torn_line(path)
    append_event(path, WarningEvent(message="after"))
    end_torn_line(path)  # nothing is torn now
    append_event(path, WarningEvent(message="again"))
    assert [event.message for event in read_events(path)[0]] == ["after", "again"]


def test_skimming_keeps_the_last_of_each_stretch_of_steps(tmp_path):
    path = tmp_path / "e"
    for number in (1, 2, 3):
        append_event(path, StepEvent(**STEP | {"step": number}))
    append_event(path, WarningEvent(message="between"))
    for number in (4, 5):
        append_event(path, StepEvent(**STEP | {"step": number}))
    kept, end = skim_events(path)
    assert [getattr(event, "step", "between") for event in kept] == [3, "between", 5]
    append_event(path, StepEvent(**STEP | {"step": 6}))
    append_event(path, StepEvent(**STEP | {"step": 7}))
    assert [event.step for event in skim_events(path, end)[0]] == [7]


LARGE_BYTES, READ_BYTES = 200_000_000, 20_000_000  # skimmed, and read to the last number: a tenth
ALLOWED_BYTES = 60_000_000
READING = """
import resource, sys
from pathlib import Path
from workbench.runs.events import {function}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
events, end = {function}(Path(sys.argv[1]))
print(len(events), end, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("function", "size", "of_steps"),
    [
        ("skim_events", LARGE_BYTES, lambda steps: 1),
        ("read_events", READ_BYTES, lambda steps: steps),
    ],
)
def test_a_large_file_is_read_without_much_memory(tmp_path, function, size, of_steps):
    path = tmp_path / "events.jsonl"
    append_event(path, StepEvent(**STEP))
    line = path.read_bytes()
    count = size // len(line)
    with path.open("ab") as file:
        for _ in range(count // 1000):
            file.write(line * 1000)
        file.write(line[:20])  # torn
    command = [sys.executable, "-c", READING.format(function=function), str(path)]
    found, end, kilobytes = map(int, subprocess.check_output(command).split())
    assert found == of_steps(1 + count // 1000 * 1000)
    assert end == path.stat().st_size - 20
    assert kilobytes * 1024 < ALLOWED_BYTES


def test_looking_again_at_a_large_file_reads_what_is_new(services, monkeypatch):
    run = make_run(services.runs, steps=50)
    services.supervisor.summary(run)
    read = []
    skim = supervisor_module.skim_events
    monkeypatch.setattr(
        supervisor_module,
        "skim_events",
        lambda path, offset: read.append(path.stat().st_size - offset) or skim(path, offset),
    )
    assert services.supervisor.summary(run).state == "finished"
    append_event(run.events_path, StepEvent(**STEP | {"step": 51}))
    assert services.supervisor.summary(run).step == 51
    assert read[0] == 0
    assert 0 < read[1] < 1000


def test_a_missing_file_reads_as_empty(tmp_path):
    assert read_events(tmp_path / "gone") == ([], 0)


def test_every_kind_has_a_distinct_name():
    assert len(EVENT_KINDS) == 11


def test_looking_often_keeps_no_more_steps_than_looking_once(services):
    run = make_run(services.runs, steps=4, validation=(), general=(), outcome="")
    for number in range(5, 9):
        append_event(run.events_path, StepEvent(**STEP | {"step": number}))
        often = services.supervisor.summary(run)
    append_event(run.events_path, WarningEvent(message="between"))
    append_event(run.events_path, StepEvent(**STEP | {"step": 9}))
    often = services.supervisor.summary(run)
    once = Services.for_workspace(services.settings).supervisor.summary(run)
    assert [step.step for step in often.steps] == [step.step for step in once.steps] == [8, 9]
