"""The verbs about data, and training on several datasets, from the command line."""

from __future__ import annotations

import json

import pytest

from tests.data.sample_files import ALPACA, FILES, as_json, as_table
from workbench.cli import main
from workbench.data.problems import KINDS
from workbench.runs.events import EvaluationEvent, StartEvent, StepEvent, read_events


def run(capsys, *arguments):
    quick = ["--set", "evaluate_after=0", "keep_general=false"] if arguments[0] == "train" else []
    code = main([*map(str, arguments), *quick])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write(tmp_path, content, name="mine.json"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else as_json(content))
    return path


def test_check_says_all_in_one_json_document(settings, tmp_path, capsys):
    path = write(tmp_path, [*ALPACA, {"instruction": "Q"}])
    code, out, _ = run(capsys, "check", path, "--json")
    document = json.loads(out)
    assert code == 1
    assert (document["format"], document["encoding"]) == ("alpaca", "utf-8")
    assert (document["rows"], document["usable_rows"], document["usable"]) == (26, 25, False)
    (problem,) = document["problems"]
    assert (problem["code"], problem["severity"], problem["count"]) == (
        "missing-answer",
        "error",
        1,
    )
    assert problem["first"][0].keys() == {"row", "line", "detail"}
    assert "tokens" not in document


@pytest.mark.parametrize("name", FILES)
def test_check_takes_every_kind_of_file(settings, tmp_path, capsys, name):
    code, out, _ = run(capsys, "check", write(tmp_path, FILES[name], name))
    assert code == 0
    assert "It can be trained on." in out


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"[1]", "1 row without named fields"), (b"Dear diary", "not a table")],
)
def test_check_returns_1_for_what_cannot_be_used(settings, tmp_path, capsys, content, words):
    code, out, _ = run(capsys, "check", write(tmp_path, content))
    assert code == 1
    assert words in out


def test_a_wrong_call_returns_2(settings, tmp_path, capsys):
    assert run(capsys, "check", tmp_path / "gone.json")[0] == 2
    path = write(tmp_path, ALPACA)
    assert run(capsys, "check", path, "--map", "question=nowhere", "answer=output")[0] == 2
    assert run(capsys, "fix", path, "--out", path)[0] == 2


def test_columns_are_told_with_map(settings, tmp_path, capsys):
    path = write(tmp_path, as_table([{"frage": f"Q{n}", "antwort": f"A{n}"} for n in range(30)]))
    assert run(capsys, "check", path)[0] == 1
    assert run(capsys, "check", path, "--map", "question=frage", "answer=antwort")[0] == 0


def test_fix_writes_a_clean_copy(settings, tmp_path, capsys):
    path = write(tmp_path, [*ALPACA, ALPACA[0], {"instruction": "Q"}])
    out_path = tmp_path / "clean.jsonl"
    flags = ["--drop-invalid", "--deduplicate", "--json"]
    code, out, _ = run(capsys, "fix", path, "--out", out_path, *flags)
    assert code == 0
    document = json.loads(out)
    assert (document["before"]["rows"], document["after"]["rows"]) == (27, 25)
    assert len(out_path.read_text().splitlines()) == 25


def test_tokens_are_counted_with_the_models_own_template(
    settings, tmp_path, capsys, tiny_model_dir
):
    path = write(tmp_path, ALPACA)
    arguments = ["--model", tiny_model_dir, "--max-length", 60, "--json"]
    code, out, _ = run(capsys, "check", path, *arguments)
    tokens = json.loads(out)["tokens"]
    assert code == 0
    assert tokens.keys() == {"min", "median", "p95", "max", "total", "over_limit"}
    assert tokens["min"] <= tokens["median"] <= tokens["p95"] <= tokens["max"]
    assert 0 < tokens["over_limit"] < 25
    assert "longer than 60 tokens" in run(capsys, "check", path, *arguments[:-1])[1]


def test_datasets_are_listed(settings, services, tmp_path, capsys):
    services.datasets.add(write(tmp_path, ALPACA), "mine.json")
    code, out, _ = run(capsys, "datasets", "--json")
    assert code == 0
    assert [info["name"] for info in json.loads(out)][-1] == "mine.json"
    assert "sample-identity" in run(capsys, "datasets")[1]


def test_every_code_can_be_dropped_or_explained():
    for code, kind in KINDS.items():
        assert kind.advice.endswith("."), code
        assert kind.one, code
        assert kind.message(2).endswith(kind.advice), code


def rows_about(word, count):
    return [{"instruction": f"{word} {n}?", "output": f"{word} {n}."} for n in range(count)]


def test_a_mix_trains_each_dataset_by_its_weight_and_tells_the_loss_of_each(
    services, tmp_path, capsys, tiny_model_dir
):
    one = write(tmp_path, rows_about("one", 40), "one.json")
    two = write(tmp_path, rows_about("two", 60), "two.json")
    settings = ["epochs=1", "batch_size=10", "validation_share=0.1", "max_length=256"]
    code, out, _ = run(
        capsys, "train", "--data", f"{one}:2", "--data", f"{two}:0.5",
        "--model", tiny_model_dir, "--set", *settings, "--json",
    )  # fmt: skip
    assert code == 0
    shown = json.loads(out)
    events, _ = read_events(services.runs.get("latest").events_path)
    start = next(event for event in events if isinstance(event, StartEvent))
    assert start.by_dataset == {"one.json": [72, 4], "two.json": [27, 6]}
    assert start.total_steps == len([e for e in events if isinstance(e, StepEvent)]) == 10
    losses = [e.by_dataset for e in events if isinstance(e, EvaluationEvent)]
    assert all(loss.keys() == {"one.json", "two.json"} for loss in losses)
    assert shown["eval_loss_by_dataset"] == losses[-1]
    assert services.datasets.info(shown["data"]["parts"][0]["id"]).name == "one.json"


def test_a_file_of_its_own_to_check_with(services, tmp_path, capsys, tiny_model_dir):
    data = write(tmp_path, rows_about("one", 40), "one.json")
    check = write(tmp_path, rows_about("two", 8), "two.json")
    code, _, _ = run(
        capsys, "train", "--data", data, "--validation", check, "--model", tiny_model_dir,
        "--set", "max_steps=2", "max_length=256", "--json",
    )  # fmt: skip
    assert code == 0
    events, _ = read_events(services.runs.get("latest").events_path)
    start = next(event for event in events if isinstance(event, StartEvent))
    assert (start.train_rows, start.validation_rows) == (40, 8)
    overlap = write(tmp_path, [*rows_about("one", 3), *rows_about("three", 5)], "overlap.json")
    code, _, _ = run(
        capsys, "train", "--data", data, "--validation", overlap, "--model", tiny_model_dir,
        "--set", "max_steps=1", "max_length=256", "--json",
    )  # fmt: skip
    warnings = services.supervisor.snapshot(services.runs.get("latest")).warnings
    assert warnings[0].startswith("3 of the 8 rows to check with ask what a row of another dataset")
    arguments = ["train", "--data", data, "--validation", data, "--model", tiny_model_dir]
    assert "are among those to learn from" in run(capsys, *arguments)[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{file}", "{file}:2"], "is given twice"),
        (["{file}:heavy"], "The weight 'heavy' of"),
        (["sample-identity:"], "The weight '' of sample-identity"),
        (["{file}:0"], "weight of one.json cannot be 0"),
        (["{file}:nan"], "weight of one.json cannot be nan"),
        ([r"C:\gone.json"], r"There is no file C:\gone.json"),
    ],
)
def test_a_wrong_weight_is_a_sentence(services, tmp_path, capsys, arguments, words):
    file = write(tmp_path, rows_about("one", 40), "one.json")
    data = [text for a in arguments for text in ("--data", a.replace("{file}", str(file)))]
    code, _, err = run(capsys, "train", *data)
    assert code == 2
    assert words in err
    assert services.runs.ids() == []


def test_a_file_with_a_colon_in_its_name_is_no_weight(services, tmp_path, capsys, tiny_model_dir):
    file = write(tmp_path, rows_about("one", 40), "one.json:2")
    code, out, _ = run(
        capsys, "train", "--data", file, "--model", tiny_model_dir, "--set", "max_steps=1", "--json"
    )
    assert code == 0
    (part,) = json.loads(out)["data"]["parts"]
    assert (part["name"], part["weight"]) == ("one.json:2", 1.0)


def test_long_rows_are_cut_when_the_person_wants_that(services, tmp_path, capsys, tiny_model_dir):
    data = write(tmp_path, rows_about("a long question " * 9, 40), "long.json")
    code, _, _ = run(
        capsys, "train", "--data", data, "--model", tiny_model_dir,
        "--set", "max_steps=1", "max_length=120", "too_long=cut", "--json",
    )  # fmt: skip
    assert code == 0
    snapshot = services.supervisor.snapshot(services.runs.get("latest"))
    assert snapshot.start.cut_rows == 40
    assert "40 rows (100.0%) are longer than 120 tokens and were cut" in snapshot.warnings[0]
