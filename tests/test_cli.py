"""The command line, with real child processes training a tiny random model."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.made_runs import make_run
from tests.waiting import wait_until
from workbench.cli import main
from workbench.cli_runs import outcome_line
from workbench.runs.events import ResumeEvent, StepEvent, append_event, read_events
from workbench.settings import PROJECT_DIR

QUICK = ["max_steps=6", "eval_steps=3", "batch_size=4", "max_length=256"]


@pytest.fixture
def train(settings, services, tiny_model_dir, alpaca_file, capsys):
    """Run ``workbench train`` on the tiny model; return exit code, stdout and stderr."""

    def run(*extra, data=alpaca_file):
        arguments = ["train", "--data", str(data), "--model", str(tiny_model_dir)]
        arguments += ["--set", "evaluate_after=0", "keep_general=false", *extra]
        code = main(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def run_json(capsys, *arguments):
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_method_trains_saves_and_chats(train, services, capsys, method):
    code, out, _ = train("--method", method, "--set", *QUICK, "learning_rate=1e-2", "--json")
    assert code == 0
    shown = json.loads(out)
    assert shown["status"] == "finished"
    assert (shown["step"], shown["total_steps"], shown["config"]["method"]) == (6, 6, method)
    run = services.runs.get("latest")
    events, _ = read_events(run.events_path)
    steps = [event for event in events if isinstance(event, StepEvent)]
    assert len(steps) == 6
    assert steps[-1].loss < steps[0].loss
    assert not list(run.directory.rglob("*.bin"))
    files = {path.name for path in run.model_dir.iterdir()}
    assert ("model.safetensors" if method == "full" else "adapter_model.safetensors") in files
    answers = {
        flag: run_json(capsys, "chat", "latest", "--prompt", "What comes after 3?", *flag)
        for flag in ((), ("--base",))
    }
    assert [answers[()]["model"], answers[("--base",)]["model"]] == ["tuned", "base"]
    assert answers[()]["answer"] != answers[("--base",)]["answer"]


def test_a_loss_that_is_not_a_number_is_told_in_words(services):
    run = make_run(services.runs, steps=0, outcome=None)
    lost = StepEvent(
        step=4, epoch=0.1, loss=None, learning_rate=1e-3, grad_norm=None, tokens=1, seconds=1.0,
        memory_bytes=1,
    )  # fmt: skip
    append_event(run.events_path, lost)
    line = outcome_line(run, services.supervisor.snapshot(run))
    assert line.endswith("The loss was not a number.")


def test_full_tuning_saves_a_model_that_needs_no_base(train, services, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert train("--method", "full", "--set", *QUICK)[0] == 0
    standalone = services.runs.get("latest").model_dir.rename(tmp_path / "standalone")
    model = AutoModelForCausalLM.from_pretrained(standalone)
    base = AutoModelForCausalLM.from_pretrained(services.runs.get("latest").config.model)
    changed = [not a.equal(b) for a, b in zip(model.parameters(), base.parameters(), strict=True)]
    assert all(changed)  # every weight
    assert AutoTokenizer.from_pretrained(standalone).chat_template


def test_the_same_seed_gives_the_same_losses(train, services):
    losses = []
    for _ in range(2):
        assert train("--set", *QUICK)[0] == 0
        events, _ = read_events(services.runs.get("latest").events_path)
        losses.append([event.loss for event in events if isinstance(event, StepEvent)])
    assert losses[0] == losses[1]


def test_the_run_directory_is_readable_with_cat(train, services):
    assert train("--set", *QUICK, "save_steps=3", "--name", "First try")[0] == 0
    directory = services.runs.get("latest").directory
    config = yaml.safe_load((directory / "config.yaml").read_text())
    assert config["learning_rate"] > 0  # resolved
    (part,) = json.loads((directory / "data.json").read_text())["parts"]
    assert (part["row_count"], part["weight"]) == (40, 1.0)
    assert json.loads((directory / "environment.json").read_text())["torch"]
    assert json.loads((directory / "run.json").read_text())["name"] == "First try"
    assert [path.name for path in (directory / "checkpoints").glob("checkpoint-*")] == [
        "checkpoint-6"
    ]
    for line in (directory / "events.jsonl").read_text().splitlines():
        assert {"kind", "time"} <= json.loads(line).keys()


def test_detach_stop_and_show(train, services, capsys):
    code, out, _ = train("--detach", "--json", "--set", "max_steps=100000", "batch_size=2")
    started = json.loads(out)
    assert (code, started["status"] in ("starting", "running")) == (0, True)
    wait_until(lambda: run_json(capsys, "show", "latest")["step"] >= 2, 60)
    assert run_json(capsys, "runs")[0]["id"] == started["id"]
    stopped = run_json(capsys, "stop", started["id"])
    assert stopped["status"] == "stopped"
    assert stopped["model_saved"]
    assert stopped["eta_seconds"] is None
    assert stopped["started_at"] < stopped["finished_at"] < time.time()
    assert stopped["model_dir"] == str(services.runs.get("latest").model_dir)
    with services.runs.get("latest").log_path.open("a") as log:
        log.write("the token hf_0123456789012345678901234567890123\n")
    assert main(["logs", "latest", "--follow"]) == 0
    assert "the token hf_0…\n" in capsys.readouterr().out
    assert services.runs.get("latest").model_dir.is_dir()


def test_stop_before_the_first_step_leaves_no_half_model(train, services, capsys):
    train("--detach", "--set", "max_steps=100000")
    run = services.runs.get("latest")
    assert main(["stop", run.id]) == 0
    assert services.supervisor.snapshot(run).state == "stopped"
    assert list(run.directory.glob("model*")) == []


def test_rows_that_are_too_long_are_counted_and_told(train, services, tmp_path):
    rows = [{"instruction": f"{n}" + "Q" * (400 if n < 5 else 5), "output": "A"} for n in range(40)]
    path = tmp_path / "long.json"
    path.write_text(json.dumps(rows))
    assert train("--set", "max_steps=2", "max_length=100", data=path)[0] == 0
    (warning,) = services.supervisor.snapshot(services.runs.get("latest")).warnings
    assert "5 rows (12.5%) are longer than 100 tokens" in warning


def test_when_every_row_is_too_long_the_run_says_so(train, services):
    code, out, _ = train("--set", "max_length=16")
    assert code == 1
    assert "Raise the maximum length; the longest row has" in out


@pytest.mark.parametrize(
    ("method", "setting"), [("lora", "target_modules"), ("freeze", "trained_parts")]
)
def test_names_that_the_model_does_not_have_are_a_sentence_before_the_start(
    train, services, method, setting
):
    code, out, err = train("--method", method, "--set", f"{setting}=nothing_like_it")
    assert (code, out) == (2, "")
    assert "called nothing_like_it. Set it to" in err
    assert services.runs.ids() == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "counting.json is empty"),
        (b"{}", "row without a question"),
        (b'[{"instruction": "Q"}]', "it is the answer. Columns: `instruction`."),
        (b'[{"instruction": "Q", "output": 1}]', "`output` is a number"),
        ("[]".encode("utf-16"), "There is no row in the file."),
    ],
)
def test_wrong_data_is_one_sentence_and_exit_code_2(train, alpaca_file, content, words, services):
    alpaca_file.write_bytes(content)
    code, out, err = train()
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert out == ""
    assert services.runs.ids() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "gone.json"], "There is no file gone.json"),
        (["--data", "sample-identity", "--set", "epochs=-1"], "Epochs cannot be '-1'"),
        (["--data", "sample-identity", "--set", "epochs"], "has no ="),
        (["--data", "sample-identity", "--preset", "nope"], "There is no preset 'nope'"),
        (
            ["--data", "sample-identity", "--model", "no such model"],
            "There is no model 'no such model'",
        ),
        (["--data", "sample-identity", "--model", "/etc"], "/etc holds no model"),
        (["--data", "sample-identity", "--method", "magic"], "Method cannot be 'magic'"),
    ],
)
def test_wrong_arguments_are_one_sentence(settings, capsys, arguments, words):
    assert main(["train", *arguments, "--json"]) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("verb", ["show", "stop", "chat"])
def test_an_unknown_run_is_a_sentence(settings, capsys, verb):
    assert main([verb, "nope"]) == 2
    assert "There is no run 'nope'" in capsys.readouterr().err


def test_a_folder_without_safetensors_is_refused(train, services, tmp_path, monkeypatch):
    folder = tmp_path / "pickled"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"")
    code, _, err = train("--model", str(folder))
    assert code == 2
    assert "no safetensors weights" in err
    assert services.runs.ids() == []


def test_a_taken_port_is_a_sentence_and_no_trace(settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, str(PROJECT_DIR / "app.py"), "--port", str(port)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert f"--port {port + 1}" in result.stderr
    assert "Traceback" not in result.stderr


def test_listening_on_all_addresses_needs_a_password(settings):
    command = [sys.executable, str(PROJECT_DIR / "app.py"), "--host", "0.0.0.0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "WORKBENCH_PASSWORD" in result.stderr


def test_a_stopped_run_is_resumed_continued_labelled_and_deleted(train, services, capsys):
    train("--detach", "--set", "max_steps=60", "batch_size=2", "save_steps=5", "watched_rows=0")
    run = services.runs.get("latest")
    wait_for_step(services, run, 3)
    stopped = run_json(capsys, "stop", "latest")
    assert (stopped["status"], stopped["checkpoints"]) == ("stopped", [stopped["step"]])
    assert main(["resume", "latest", "--json"]) == 0
    finished = json.loads(capsys.readouterr().out)
    assert (finished["status"], finished["step"]) == ("finished", 60)
    events, _ = read_events(run.events_path)
    assert [event.step for event in events if isinstance(event, ResumeEvent)] == [stopped["step"]]

    assert main(["continue", "latest", "--epochs", "0.2", "--json"]) == 0
    continued = json.loads(capsys.readouterr().out)
    assert (continued["status"], continued["parent"]) == ("finished", run.id)
    child = services.supervisor.snapshot(services.runs.get(continued["id"]))
    parent = services.supervisor.snapshot(run)
    assert child.evaluations[0].loss == pytest.approx(parent.evaluations[-1].loss, rel=1e-4)

    labelled = run_json(
        capsys, "label", continued["id"], "--name", "Better", "--tags", "b, a", "--note", "ü"
    )
    assert (labelled["name"], labelled["tags"], labelled["note"]) == ("Better", ["a", "b"], "ü")
    assert main(["delete", continued["id"]]) == 0
    assert services.runs.ids() == [run.id]


def test_a_past_runs_settings_are_taken_and_it_is_named_as_the_parent(train, services):
    old = make_run(services.runs, values={"lora_rank": 5})
    _, out, _ = train("--preset", "run:latest", "--detach", "--json", "--set", "max_length=100")
    shown = json.loads(out)
    assert (shown["parent"], shown["config"]["lora_rank"]) == (old.id, 5)


def test_the_second_run_waits_in_line_and_can_leave_it(train, services, capsys):
    train("--detach", "--set", "max_steps=100000")
    train("--detach", "--set", "max_steps=2", "max_length=100")
    second = services.runs.get("latest")
    shown = run_json(capsys, "show", "latest")
    assert (shown["status"], shown["place"]) == ("queued", 1)
    assert [run["id"] for run in run_json(capsys, "queue")] == [second.id]
    assert run_json(capsys, "stop", "latest")["status"] == "stopped"
    assert main(["delete", services.runs.ids()[1]]) == 2  # it trains
    assert "Stop it first" in capsys.readouterr().err
    assert main(["resume", second.id, "--detach"]) == 0
    assert services.supervisor.line() == [second]


def test_the_next_in_line_begins_when_the_run_before_was_stopped_at_once(train, services, capsys):
    """A process that is killed cannot start it, and no server may be there to."""
    train("--detach", "--set", "max_steps=100000")
    first = services.runs.get("latest")
    train("--detach", "--set", "max_steps=2", "max_length=100")
    second = services.runs.get("latest")
    assert services.supervisor.line() == [second]
    assert run_json(capsys, "stop", first.id, "--now")["status"] == "stopped"
    assert services.supervisor.line() == []
    assert services.supervisor.active_run() == second


def wait_for_step(services, run, step):
    def is_there():
        snapshot = services.supervisor.snapshot(run)
        assert snapshot.is_active or snapshot.step >= step, snapshot
        return snapshot.step >= step

    wait_until(is_there, 240)


def test_output_that_nobody_reads_any_more_ends_quietly(settings):
    command = [Path(sys.executable).with_name("workbench"), "models"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    words = process.stderr.read()
    assert (process.wait(), words) == (141, b"")


def test_what_the_disk_refuses_is_a_sentence(monkeypatch, capsys):
    def refuses(*_):
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr("workbench.cli.Services.for_workspace", refuses)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "workbench: Permission denied (/somewhere)\n"


def test_files_and_other_programs_get_utf8_whatever_the_system_says(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="cp1252"))
    with pytest.raises(SystemExit):
        main(["--version"])
    print("→ 答案", flush=True)
    assert written.getvalue().decode("utf-8").endswith("→ 答案\n")
