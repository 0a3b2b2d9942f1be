"""The real thing with a tiny model: what it answers, and that it stops and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.waiting import wait_until
from workbench.child_progress import ProgressWriter, read_progress
from workbench.cli import main
from workbench.compute import Compute
from workbench.config import build_config
from workbench.errors import StopRequested
from workbench.evaluation.answering import Asker
from workbench.evaluation.answers import Answer, ModelAnswers, RowLoss, read_answers
from workbench.evaluation.comparing import compared_requests, find_comparison
from workbench.evaluation.job import evaluate
from workbench.evaluation.line import AskingLine
from workbench.evaluation.measured import _scored
from workbench.evaluation.plain import plain_questions
from workbench.evaluation.process import PROGRESS, request_stop, start, watch
from workbench.evaluation.questions import newest_questions
from workbench.evaluation.request import EvaluationRequest, write_request
from workbench.evaluation.result import is_answered, read_evaluation
from workbench.evaluation.rows import EvaluationRow, general_rows, select_rows
from workbench.models.rendering import load_tokenizer, prompt_ids, tokenize_example
from workbench.runs.checkpoints import mark_complete
from workbench.runs.strength import keep_strength
from workbench.services import Services
from workbench.settings import Settings

SECONDS = 120  # whatever else runs goes first


@pytest.fixture(scope="module")
def base(lively_model_dir):
    return AutoModelForCausalLM.from_pretrained(lively_model_dir).eval()


@pytest.fixture(scope="module")
def tokenizer(lively_model_dir):
    return load_tokenizer(lively_model_dir)


@pytest.fixture
def run(services, alpaca_file, lively_model_dir):
    return make_run(services, alpaca_file, lively_model_dir)


def make_run(services, file, model_dir, method="lora"):
    """A run as training leaves it, with an adapter that changes a lot."""
    values = {
        "model": str(model_dir),
        "method": method,
        "max_steps": 2,
        "max_length": 256,
        "precision": "fp32",
    }
    data = services.choose_data({services.datasets.add(file, file.name).id: 1.0})
    plan = services.plan(build_config(values), data)
    run = services.create_run(plan, data, "tuned")
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    torch.manual_seed(1)
    if method == "full":
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
    else:
        model = adapted(model)
    model.save_pretrained(run.model_dir)
    return run


def adapted(model):
    config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return peft.get_peft_model(model, config)


def work(run, services, request=None, stop_requested=lambda: False):
    request = request or EvaluationRequest()
    path = write_request(run, request)
    progress = ProgressWriter(path.parent / PROGRESS)
    evaluate(run, request, services.settings, progress, stop_requested)
    return read_evaluation(run, request)


def greedy(model, tokenizer, messages, count):
    """One question alone, as the playground asks it."""
    ids = torch.tensor([prompt_ids(tokenizer, messages)])
    answer = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True).strip()


def plain_loss(model, tokenizer, messages):
    example = tokenize_example(tokenizer, messages)
    ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
    with torch.no_grad():
        return model(input_ids=ids, labels=labels).loss.item()


def test_base_and_tuned_answer_and_cost_as_each_does_alone(run, services, base, tokenizer):
    evaluation = work(run, services)
    rows = select_rows(run, EvaluationRequest()).rows
    assert evaluation.is_complete
    longest = evaluation.facts["answer_tokens"]
    assert longest == round(1.5 * len("40 comes next."))
    assert len({len(row.question) for row in rows}) > 1  # so that some rows are filled up
    for row, result in zip(rows, evaluation.rows, strict=True):
        # No adapter was near the base: it answers as a base model that never met one.
        assert result.base.answer == greedy(base, tokenizer, row.asked, longest)
        assert result.base.loss == pytest.approx(
            plain_loss(base, tokenizer, row.messages), rel=1e-4
        )
    fresh = AutoModelForCausalLM.from_pretrained(run.config.model)
    tuned = peft.PeftModel.from_pretrained(fresh, run.model_dir).eval()
    for row, result in zip(rows, evaluation.rows, strict=True):
        assert result.tuned.answer == greedy(
            tuned, tokenizer, row.asked, evaluation.facts["answer_tokens"]
        )
        assert result.tuned.loss == pytest.approx(
            plain_loss(tuned, tokenizer, row.messages), rel=1e-4
        )
    assert [row.base.answer for row in evaluation.rows] != [r.tuned.answer for r in evaluation.rows]
    assert evaluation.metrics["base"].figures["never_ending"].value == 1.0
    questions = general_rows(run)
    expected = [plain_loss(base, tokenizer, row.messages) for row in questions[:2]]
    said = read_answers(EvaluationRequest().answer_paths(run)["base"]).general
    found = [said[row.index].loss / said[row.index].tokens for row in questions[:2]]
    assert found == pytest.approx(expected, rel=1e-4)
    assert evaluation.forgetting.kept.value < 1.0


def test_a_stopped_evaluation_goes_on_where_it_was(run, services):
    request = EvaluationRequest()
    paths = request.answer_paths(run)
    asked = iter(range(10**6))
    with pytest.raises(StopRequested):
        # Somewhere among the answers of the tuned model.
        work(run, services, stop_requested=lambda: paths["tuned"].exists() and next(asked) > 8)
    assert not is_answered(run, request)
    base_lines = paths["base"].read_text().splitlines()
    tuned_lines = paths["tuned"].read_text().splitlines()
    assert tuned_lines
    work(run, services)
    assert is_answered(run, request)
    assert paths["base"].read_text().splitlines() == base_lines
    assert paths["tuned"].read_text().splitlines()[: len(tuned_lines)] == tuned_lines
    everything = paths["tuned"].read_text().splitlines()
    keys = [(json.loads(line)["kind"], json.loads(line)["index"]) for line in everything]
    assert len(keys) == len(set(keys))  # nothing was asked twice


def test_another_model_of_the_run_is_asked_and_the_base_is_not_again(run, services, tokenizer):
    work(run, services)
    directory = run.checkpoints_dir / "checkpoint-3"
    torch.manual_seed(2)
    adapted(AutoModelForCausalLM.from_pretrained(run.config.model)).save_pretrained(directory)
    mark_complete(directory)
    request = EvaluationRequest(checkpoint=3)
    base_path = request.answer_paths(run)["base"]
    before = base_path.stat().st_mtime_ns
    evaluation = work(run, services, request)
    assert base_path.stat().st_mtime_ns == before
    fresh = AutoModelForCausalLM.from_pretrained(run.config.model)
    tuned = peft.PeftModel.from_pretrained(fresh, directory).eval()
    row = evaluation.rows[0]
    assert row.tuned.answer == greedy(
        tuned, tokenizer, row.asked, evaluation.facts["answer_tokens"]
    )
    run.model_dir.joinpath("adapter_model.safetensors").touch()  # a run that went on saves anew
    assert not is_answered(run, EvaluationRequest())


def test_answers_at_another_strength_lie_apart(run, services, tokenizer, capsys):
    as_trained = work(run, services)
    half = work(run, services, EvaluationRequest(strength=0.5))
    fresh = AutoModelForCausalLM.from_pretrained(run.config.model)
    tuned = peft.PeftModel.from_pretrained(fresh, run.model_dir).eval()
    for module in tuned.modules():
        if hasattr(module, "lora_B"):  # half of what it adds
            module.lora_B["default"].weight.data /= 2
    for row, before in zip(half.rows, as_trained.rows, strict=True):
        longest = half.facts["answer_tokens"]
        assert row.tuned.answer == greedy(tuned, tokenizer, row.asked, longest)
        messages = [*row.asked, {"role": "assistant", "content": row.expected}]
        assert row.tuned.loss == pytest.approx(plain_loss(tuned, tokenizer, messages), rel=1e-4)
        assert row.tuned.loss != before.tuned.loss
        assert row.base == before.base
    assert read_evaluation(run, EvaluationRequest()).rows == as_trained.rows
    whole, halved = (EvaluationRequest(strength=s).answer_paths(run) for s in (1.0, 0.5))
    assert (whole["base"], whole["tuned"]) != (halved["base"], halved["tuned"])
    assert whole["base"] == halved["base"]
    assert not is_answered(run, EvaluationRequest(strength=0.25))


def test_the_command_takes_the_strength_that_is_kept_or_another(run, services, tmp_path, capsys):
    for strength in (1.0, 0.5, 0.25):
        work(run, services, EvaluationRequest(strength=strength))
    losses = {}
    report = tmp_path / "report.html"
    for kept, asked, expected in ((1, [], 1), (0.5, [], 0.5), (0.5, ["--strength", "0.25"], 0.25)):
        keep_strength(run, kept)
        assert main(["evaluate", run.id, "--json", "--report", str(report), *asked]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["strength"] == expected
        losses[expected] = document["metrics"]["tuned"]["loss"]
        words = f"Strength of the training: {expected:g} ("
        assert (words in report.read_text()) == (expected != 1)
        assert main(["evaluate", run.id, *asked]) == 0
        assert (words in capsys.readouterr().out) == (expected != 1)
    assert len(set(losses.values())) == 3
    assert main(["evaluate", run.id, "--strength", "3"]) == 2
    assert "must be from 0 to 2" in capsys.readouterr().err


def test_plain_questions_are_answered_before_and_after(run, services, base, tokenizer):
    evaluation = work(run, services)
    assert len(evaluation.plain) == len(plain_questions()) == 12
    for row in (evaluation.plain[0], evaluation.plain[-1]):
        asked = [{"role": "user", "content": row.question}]
        assert row.base == greedy(base, tokenizer, asked, 32)
        assert row.tuned != row.base
    assert is_answered(run, EvaluationRequest())
    path = EvaluationRequest().answer_paths(run)["tuned"]
    kept = [line for line in path.read_text().splitlines() if '"plain"' not in line]
    path.write_text("\n".join(kept) + "\n")
    assert not is_answered(run, EvaluationRequest())
    assert work(run, services).plain == evaluation.plain


def test_a_run_that_saved_a_whole_model(services, alpaca_file, lively_model_dir, tokenizer):
    run = make_run(services, alpaca_file, lively_model_dir, "full")
    evaluation = work(run, services)
    tuned = AutoModelForCausalLM.from_pretrained(run.model_dir).eval()
    row = evaluation.rows[0]
    assert row.tuned.answer == greedy(
        tuned, tokenizer, row.asked, evaluation.facts["answer_tokens"]
    )
    assert row.base.answer != row.tuned.answer


def test_memory_that_runs_short_halves_the_batch(run, services, monkeypatch):
    from workbench.evaluation.answering import Asker

    whole, sizes = Asker._answer, []

    def answer(self, batch, answer_tokens):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(self, batch, answer_tokens)

    monkeypatch.setattr(Asker, "_answer", answer)
    assert work(run, services, EvaluationRequest(tuned=False)).is_complete
    alone = [1] * 12, [1] * 10  # the plain questions, the rows
    assert sizes == [12, 6, 3, *alone[0], 10, 5, 2, *alone[1]]


def test_a_row_longer_than_the_model_can_read_is_counted(run, services, tmp_path):
    path = tmp_path / "long.json"
    rows = [{"instruction": "x" * 600, "output": "y"}, {"instruction": "a", "output": "b"}]
    path.write_text(json.dumps(rows))
    info = services.datasets.add(path, path.name)
    from workbench.runs.store import DataPart

    part = DataPart(info.id, info.name, str(services.datasets.path(info.id)), info.sha256, 2)
    evaluation = work(run, services, EvaluationRequest(data=part, tuned=False))
    assert (evaluation.too_long, len(evaluation.rows), evaluation.is_complete) == (1, 1, True)


def test_the_command_asks_in_a_process_of_its_own_and_only_once(
    run, services, tmp_path, capsys, monkeypatch
):
    report = tmp_path / "report.html"
    assert main(["evaluate", run.id, "--report", str(report.parent / "nowhere" / "x.html")]) == 2
    assert main(["evaluate", run.id, "--json", "--report", str(report)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["metrics"]) == {"base", "tuned"}
    assert {"question", "expected", "base", "tuned", "base_loss", "tuned_loss"} <= set(
        document["rows"][0]
    )
    assert document["forgetting"]["kept"]["value"] < 1
    assert "<h1>tuned</h1>" in report.read_text()
    last = read_progress(EvaluationRequest().directory(run) / PROGRESS)
    assert last.state == "finished"
    monkeypatch.setattr("workbench.cli_evaluate.start", None)  # not needed any more
    assert main(["evaluate", run.id]) == 0
    assert "10 rows that were held back" in capsys.readouterr().out


def test_the_command_takes_another_file_and_counts_what_it_cannot_read(
    run, services, tmp_path, capsys
):
    path = tmp_path / "other.json"
    rows = [{"instruction": f"What is {n}?", "output": f"It is {n}."} for n in range(6)]
    path.write_text(json.dumps([*rows, {"instruction": "No answer", "output": ""}]))
    code = main(
        ["evaluate", run.id, "--data", str(path), "--base", "--limit", "3", "--max-tokens", "4"]
    )
    assert code == 0
    text = capsys.readouterr().out
    assert "3 rows of other.json" in text
    assert "chosen from 6" in text
    assert "1 of the file without a usable question and answer" in text
    assert "tuned" not in text.splitlines()[2]


def test_a_file_of_questions_is_answered_as_each_alone_and_only_once(
    run, services, base, tokenizer, tmp_path, capsys, monkeypatch
):
    path, out = tmp_path / "mine.txt", tmp_path / "answers.csv"
    path.write_text(f"Who are you?\nWhat comes after 3?\n{'x' * 600}\n")
    command = ["answer", run.id, "--file", str(path), "--both", "--max-tokens", "12"]
    assert main([*command, "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["complete"]
    assert document["too_long_rows"] == 1
    first, second, third = document["rows"]
    for row in (first, second):
        messages = [{"role": "user", "content": row["question"]}]
        assert row["base"] == greedy(base, tokenizer, messages, 12)
    assert first["base"] != first["tuned"]
    assert third["base"] is third["tuned"] is None
    assert out.read_text(encoding="utf-8-sig").count("Who are you?") == 1
    kept = read_answers(newest_questions(run).answer_paths(run)["tuned"])
    assert not kept.general  # an evaluation reads them, to say what was forgotten
    monkeypatch.setattr("workbench.cli_evaluate.start", None)  # not needed any more
    assert main(command) == 0
    said = capsys.readouterr()
    assert "2 of 3 questions answered" in said.err
    assert f"   base: {first['base']}" in said.out


def test_several_runs_are_asked_one_after_the_other_and_stopped(run, services, alpaca_file):
    other = make_run(services, alpaca_file, Path(run.config.model))
    shared = EvaluationRequest(compared=(run.id, other.id))
    line, runs = AskingLine(services.settings), [run, other]
    line.start(shared, compared_requests(runs, shared))

    def ended():
        now = line.look(shared, runs)
        if now and now.state != "running":
            return now
        line.start(shared, compared_requests(runs, shared))  # pressed once more: nothing new
        return None

    assert wait_until(ended, SECONDS).state == "finished"
    comparison = find_comparison(runs, EvaluationRequest())
    assert comparison.is_complete
    assert [column.id for column in comparison.columns] == ["base", run.id, other.id]
    assert not EvaluationRequest().answer_paths(other)["base"].exists()
    for path in other.directory.glob("evaluations/*/tuned-*.jsonl"):
        path.unlink()
    line.start(shared, compared_requests(runs, shared))
    wait_until(
        lambda: (now := line.look(shared, runs)) and now.words not in ("", "Starting"), SECONDS
    )
    line.stop(shared, runs)
    wait_until(lambda: line.look(shared, runs).state != "running", SECONDS)
    assert line.look(shared, runs).state == "stopped"


def test_a_process_that_is_asked_to_stop_stops(run, services):
    request = EvaluationRequest()
    child = start(run, request, services.settings)
    request_stop(request.directory(run))
    *_, last = watch(request.directory(run), child)
    assert last.state == "stopped"
    assert child.wait(5) == 0


def test_a_process_that_is_killed_is_not_waited_for(run, services):
    request = EvaluationRequest()
    child = start(run, request, services.settings)
    child.kill()
    *_, last = watch(request.directory(run), child)
    assert last.state == "failed"
    assert "never said why" in last.message


def test_a_failure_is_told_in_words(run, services, capsys):
    (run.model_dir / "adapter_model.safetensors").write_bytes(b"no weights")
    assert main(["evaluate", run.id]) == 2
    assert "It ended with an error" in capsys.readouterr().err


def test_a_run_without_a_model_is_refused(services, alpaca_file, lively_model_dir, capsys):
    Services.for_workspace(Settings.from_environment())
    run = make_run(services, alpaca_file, lively_model_dir)
    run.model_dir.rename(run.directory / "elsewhere")
    assert main(["evaluate", run.id]) == 2
    assert "has no model to evaluate" in capsys.readouterr().err


def test_a_thought_is_no_part_of_an_answer(tokenizer):
    written = "<think>\nIt is praise.\n</think>\n\npositive"
    ids = tokenizer(written, add_special_tokens=False)["input_ids"]
    asker = Asker(None, tokenizer, Compute("cpu", "fp32"), lambda: False)
    answer = asker._read(3, ids, set())
    assert answer == Answer(3, written, len(ids), ended=False)
    said = ModelAnswers({0: replace(answer, index=0)}, {0: RowLoss(0, 1.0, 1, 1)})
    row = EvaluationRow(0, "d", 1, [*messages("Good?"), {"role": "assistant", "content": written}])
    assert (row.expected, row.written) == ("positive", written)
    assert (_scored(row, said).answer, _scored(row, said).expected) == ("positive", "positive")


def messages(question):
    return [{"role": "user", "content": question}]
