"""Several runs on the same rows, from answers on disk and without any model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.test_report import HOSTILE, Page, part_of, say
from tests.made_runs import make_run
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.evaluation.comparing import compared_requests, find_comparison, read_comparison
from workbench.evaluation.comparing_document import comparison_json
from workbench.evaluation.comparing_report import comparison_report_html
from workbench.evaluation.comparing_words import comparison_verdict, print_comparison
from workbench.evaluation.learned import learned_questions
from workbench.evaluation.request import BASE, TUNED, EvaluationRequest, read_request, write_request
from workbench.evaluation.rows import select_rows
from workbench.runs.store import DataPart, DataReference
from workbench.runs.strength import keep_strength

ROWS = [{"instruction": f"Is {n} even?", "output": "no" if n % 2 else "yes"} for n in range(40)]


def trained(services, name, *parts, seed=42, validation=None, values=None, **details):
    general = services.datasets.info("sample-general-heldout")
    check = DataPart(general.id, general.name, str(services.datasets.path(general.id)),
                     general.sha256, general.row_count)  # fmt: skip
    data = DataReference(parts, validation, 0.25, seed, general_check=check)
    run = make_run(services.runs, name, values, data)
    if details:
        record = json.loads((run.directory / "run.json").read_text())
        (run.directory / "run.json").write_text(json.dumps(record | details))
        services.runs._opened.clear()
        run = services.runs.get(run.id)
    run.model_dir.mkdir()
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"weights")
    return run


def answer(asked, right):
    """Let each run say the expected answer to the rows it is right on; ``right`` by the run's name."""
    for run, request in asked:
        rows = select_rows(run, request).rows
        for name in request.answer_paths(run):
            is_right = right["base" if name == BASE else run.name]
            say(run, request, name, {
                row.index: row.expected if is_right(row.index) else "Well." for row in rows
            }, general=2.0 if name == BASE else 2.2)  # fmt: skip


@pytest.fixture
def part(services):
    return part_of(services, ROWS)


@pytest.fixture
def pair(services, part):
    return trained(services, "first", part), trained(services, "second", part)


@pytest.fixture
def compared(pair):
    asked = compared_requests(pair, EvaluationRequest())
    answer(asked, {"base": lambda i: False, "first": lambda i: i < 2, "second": lambda i: True})
    return pair, asked, read_comparison(asked)


def test_answers_of_either_run_alone_count_and_a_base_is_asked_once(pair):
    alone = EvaluationRequest()
    assert [request.base for _, request in compared_requests(pair, alone)] == [True, False]
    for run, request in compared_requests(pair, alone):
        assert request.directory(run) == alone.directory(run)
    second = pair[1]
    rows = select_rows(second, alone).rows
    say(second, alone, BASE, {row.index: "yes" for row in rows})
    assert [request.base for _, request in compared_requests(pair, alone)] == [False, True]


def test_a_base_in_four_bits_is_another_base(services, part, pair):
    small = trained(services, "small", part, values={"method": "qlora"})
    asked = compared_requests([*pair, small], EvaluationRequest())
    assert [request.base for _, request in asked] == [True, False, True]
    answer(asked, dict.fromkeys(("base", "first", "second", "small"), lambda i: True))
    names = [column.name for column in read_comparison(asked).columns]
    assert names[:2] == [
        "base, SmolLM2 135M (starter)",
        "base, SmolLM2 135M (starter) in 4 bits",
    ]


def test_the_difference_to_the_first_is_paired_and_says_whether_it_is_chance(compared):
    (first, second), _, comparison = compared
    assert comparison.is_complete
    base, one, other = comparison.columns
    assert (base.id, one.id, other.id) == (BASE, first.id, second.id)
    assert one.difference is None
    assert (other.difference.better, other.difference.worse) == (8, 0)
    assert other.difference.difference.value == pytest.approx(0.8)
    assert other.difference.is_clear
    assert base.difference.difference.value == pytest.approx(-0.2)
    assert not base.difference.is_clear  # two of ten rows
    assert other.forgetting.kept.value == pytest.approx(2.718281828 ** (0.2 - 0.22))


def test_the_rows_are_those_of_the_first_run_without_what_another_learned(services, part, pair):
    other = trained(services, "other split", part, seed=7)
    asked = compared_requests([pair[0], other], EvaluationRequest())
    own = {row.index: row.row for row in select_rows(pair[0], EvaluationRequest()).rows}
    others_rows = {row.row for row in select_rows(other, EvaluationRequest()).rows}
    for run, request in asked:
        selection = select_rows(run, request)
        kept = {row.index: row.row for row in selection.rows}
        assert kept == {index: row for index, row in own.items() if row in others_rows}
        assert selection.learned == {other.id: len(own) - len(kept)}
        assert selection.available == len(kept)
        assert 0 < selection.left_out == len(own) - len(kept)
    (_, first), (_, second) = asked
    assert first.directory(pair[0]) == EvaluationRequest().directory(pair[0])
    assert second.directory(other) != EvaluationRequest().directory(other)
    answer(asked, dict.fromkeys(("base", "first", "other split"), lambda i: True))
    comparison = read_comparison(asked)
    assert (
        f"“other split” from {comparison.selection.left_out}." in comparison_verdict(comparison)[0]
    )
    document = comparison_json(comparison)
    assert document["data"]["learned_rows"] == {other.id: comparison.selection.left_out}


def test_every_run_is_asked_at_the_strength_kept_with_it(pair):
    keep_strength(pair[1], 0.5)
    asked = compared_requests(pair, EvaluationRequest())
    assert [one.strength for _, one in asked] == [1, 0.5]
    answer(asked, dict.fromkeys(("base", "first", "second"), lambda i: True))
    names = [column.name for column in read_comparison(asked).columns]
    assert [name.endswith("at strength 0.5") for name in names] == [False, False, True]


def test_a_limit_counts_rows_that_nobody_learned_from(services, part, pair):
    runs = [pair[0], trained(services, "other split", part, seed=7)]
    everything = compared_requests(runs, EvaluationRequest())[0][1]
    kept = {row.index for row in select_rows(runs[0], everything).rows}
    few = {row.index for row in select_rows(runs[0], replace(everything, limit=1)).rows}
    assert len(kept) > 1
    assert len(few) == 1
    assert few < kept


def test_what_a_run_learned_includes_every_turn_and_the_run_it_continues(services, part):
    talk = [{"role": role, "content": text} for role, text in (
        ("user", "Is 3 even?"), ("assistant", "no"), ("user", "Sure?"), ("assistant", "yes"),
    )]  # fmt: skip
    rows = [{"messages": talk}, *({"messages": [{"role": "user", "content": f"{n}"},
            {"role": "assistant", "content": "a"}]} for n in range(3))]  # fmt: skip
    held = part_of(services, [{"instruction": "x", "output": "y"}], "held.json")
    parent = trained(services, "parent", part_of(services, rows, "talk.json"), validation=held)
    child = trained(services, "child", held, validation=held, parent=parent.id, continues=True)
    asked = compared_requests([trained(services, "first", part), child],
                              EvaluationRequest(data=part))  # fmt: skip
    selection = select_rows(*asked[0])
    assert selection.learned[child.id] == 1  # the first turn of the talk
    assert {row.question for row in selection.rows}.isdisjoint({"Is 3 even?"})


def test_a_file_that_the_first_run_learned_from_does_not_count_either(pair, part):
    asked = compared_requests(pair, EvaluationRequest(data=part))
    selection = select_rows(*asked[0])
    assert len(selection.rows) == 10
    assert set(selection.learned.values()) == {30}


def test_no_row_left_is_said(services, part, pair):
    everything = trained(services, "all", part, validation=part)
    with pytest.raises(WorkbenchError, match="Every one of the 10 rows"):
        compared_requests([pair[0], everything, trained(services, "again", part)],
                          EvaluationRequest(limit=3))  # fmt: skip


def test_training_data_that_is_gone_is_said(services, pair):
    lost = part_of(
        services, [{"instruction": f"{n}", "output": f"{n}"} for n in range(8)], "l.json"
    )
    other = trained(services, "lost", lost)
    Path(lost.path).unlink()
    learned_questions.cache_clear()
    asked = compared_requests([pair[0], other], EvaluationRequest())
    answer(asked, dict.fromkeys(("base", "first", "lost"), lambda i: True))
    assert "that “lost” learned from are gone" in " ".join(
        comparison_verdict(read_comparison(asked))
    )


def test_a_validation_file_and_a_training_file_are_never_mixed_up(services, part):
    """The same two files and split, but other rows: their answers must not share a folder."""
    other = part_of(services, [{"instruction": f"a{n}", "output": "b"} for n in range(8)], "b.json")
    checked, mixed = (
        trained(services, "c", part, validation=other),
        trained(services, "m", part, other),
    )
    request = EvaluationRequest(compared=(checked.id, mixed.id))
    assert request.directory(mixed) != EvaluationRequest().directory(mixed)
    assert request.directory(checked) == EvaluationRequest().directory(checked)
    assert read_request(write_request(mixed, request)) == request


def test_a_run_twice_or_too_many_are_refused(pair):
    with pytest.raises(WorkbenchError, match="with itself"):
        compared_requests([pair[0], pair[0]], EvaluationRequest())
    with pytest.raises(WorkbenchError, match="7 runs are too many"):
        compared_requests([replace(pair[0], id=f"r{n}") for n in range(7)], EvaluationRequest())


def test_half_of_the_answers_are_shown_as_half(pair):
    asked = compared_requests(pair, EvaluationRequest())
    answer(asked[:1], {"base": lambda i: True, "first": lambda i: True})
    assert find_comparison(pair, EvaluationRequest()) is None
    run, request = asked[1]
    rows = select_rows(run, request).rows
    say(run, request, TUNED, {row.index: "yes" for row in rows[:4]})
    comparison = find_comparison(pair, EvaluationRequest())
    assert len(comparison.rows) == 4
    assert not comparison.is_complete


def test_the_json_document_names_models_by_run(compared):
    (first, second), _, comparison = compared
    document = comparison_json(comparison)
    json.dumps(document, allow_nan=False)
    assert document["runs"] == [first.id, second.id]
    assert document["metrics"][second.id]["accuracy"] == 1.0
    assert document["differences"][second.id]["more_than_chance"] is True
    assert document["differences"][second.id]["difference"]["low"] > 0
    assert set(document["rows"][0]["answers"]) == {BASE, first.id, second.id}


def test_the_command_prints_a_table_and_writes_the_report(compared, tmp_path, capsys, monkeypatch):
    (first, second), _, _ = compared
    monkeypatch.setattr("workbench.cli_evaluate.start", None)  # everything was answered before
    report = tmp_path / "report.html"
    assert main(["evaluate", first.id, second.id, "--report", str(report)]) == 0
    text = capsys.readouterr().out
    assert "10 rows that “first” held back" in text
    assert re.search(
        r"second +100\.0 % \(72\.2 to 100\.0\).*\+80\.0 \(.*\), more than chance", text
    )
    assert "“second” is right in 8 rows where “first” is wrong" in text
    assert "<h1>first · second</h1>" in report.read_text()
    assert main(["evaluate", first.id, second.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["first"] == first.id
    assert main(["evaluate", first.id, second.id, "--base"]) == 2


def test_the_report_is_escaped_and_has_a_column_for_every_run(services, capsys):
    rows = [
        {"instruction": f"{HOSTILE} {n}", "output": f"{HOSTILE[:30]}{n % 2}"} for n in range(40)
    ]
    part = part_of(services, rows)
    runs = [
        trained(services, HOSTILE[:60], part, values={"learning_rate": 1e-3}),
        trained(services, "[red]second", part),
    ]
    asked = compared_requests(runs, EvaluationRequest())
    answer(
        asked,
        {"base": lambda i: False, runs[0].name: lambda i: i % 2, "[red]second": lambda i: True},
    )
    comparison = read_comparison(asked)
    page = Page(text := comparison_report_html(comparison))
    assert not {"script", "img"} & page.tags
    assert not [name for name in page.attributes if name.startswith("on") or name == "src"]
    assert "http" not in text.replace("http-equiv", "").replace("sha256", "")
    assert text.count("<polyline") == 6  # three charts with a line for each run
    changed = text[text.index("What was set differently") : text.index("What was set the same")]
    assert "Learning rate" in changed
    assert changed.count("marked") == 2
    assert "[red]second" in text
    print_comparison(comparison)
    _, table, *_ = capsys.readouterr().out.split("\n\n")
    assert "[red]second" in table  # names are no markup


def test_rows_where_models_differ(compared):
    _, _, comparison = compared
    assert all(row.is_told_apart for row in comparison.rows)
    same = {name: comparison.rows[0].sides[BASE] for name in comparison.rows[0].sides}
    assert not replace(comparison.rows[0], sides=same).is_told_apart
