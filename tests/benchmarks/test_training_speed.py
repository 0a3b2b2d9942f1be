"""The benchmark compares like with like, and says what it measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM

from tests.benchmarks.bound import operations_per_token, read_shape
from tests.benchmarks.chosen_model import add_model_options, choose_model, make_model
from tests.benchmarks.circumstances import code_version, describe_computer, processor_name
from tests.benchmarks.own_plan import plan_examples
from tests.benchmarks.starting_adapter import save_start
from tests.benchmarks.trainers.job import begin_alike, lora
from tests.benchmarks.training_speed import (
    RANK,
    TRAINERS,
    Figures,
    figures_of,
    own_config,
    own_job,
    run,
    table,
    tokenize,
)
from tests.tiny_model import build_tiny_tokenizer
from workbench.models.facts import model_facts
from workbench.models.sources import find_model
from workbench.settings import SAMPLES_DIR, Settings


def options(**changes):
    chosen = {"method": "lora", "rate": 2e-4, "steps": 2, "precision": "fp32"}
    return argparse.Namespace(**(chosen | changes))


def figures(tokens_per_second: float) -> Figures:
    return Figures(tokens_per_second, 0.5, 0.9, 1_000_000_000, [2.0, 1.5], [1.0, 1.0], 1.25, {})


@pytest.fixture(scope="module")
def made_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model("tiny", build_tiny_tokenizer(), tmp_path_factory.mktemp("made") / "tiny")


def test_a_ratio_is_the_median_of_those_within_each_round() -> None:
    ours, theirs = [100.0, 50.0, 300.0], [50.0, 10.0, 150.0]  # the second round was a slow one
    rounds = [
        {"ours": figures(a), "plain-fp32": figures(b)} for a, b in zip(ours, theirs, strict=True)
    ]
    first, second = table(rounds, [200.0, 200.0, 1000.0]).splitlines()[2:]
    cells = [cell.strip() for cell in second.split("|")]
    assert cells[2] == "50.0"
    assert cells[6] == "2.00x as fast"  # of 2, 5 and 2
    assert cells[7] == "15%"  # of 25, 5 and 15
    assert first.split("|")[6].strip() == ""


def test_only_steps_after_the_first_count() -> None:
    result = {
        "seconds": [9.0, 2.0],
        "computed_tokens": [100, 9],
        "losses": [2.0, 1.0],
        "gradient_norms": [1.0, 1.0],
        "peak_bytes": 1,
        "versions": {},
    }
    found = figures_of(result, [{"input_ids": [*range(12)], "labels": [-100] * 8 + [1] * 4}], 1.0)
    assert (found.tokens_per_second, found.supervised_per_second) == (6.0, 2.0)
    assert found.computed_share == 0.75


def test_a_shape_becomes_a_model_that_can_be_chosen(tmp_path: Path) -> None:
    tokenizer_dir = tmp_path / "tokenizer"
    build_tiny_tokenizer().save_pretrained(tokenizer_dir)
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    chosen = parser.parse_args(["--shape", "tiny", "--tokenizer", str(tokenizer_dir)])
    source = choose_model(chosen, Settings(tmp_path / "home"), tmp_path)
    assert read_shape(Path(source.location)).layers == 2
    assert AutoModelForCausalLM.from_pretrained(source.location).dtype == torch.bfloat16


def test_adapters_begin_with_the_weights_that_were_saved(made_dir: Path, tmp_path: Path) -> None:
    start = save_start(made_dir, RANK, 1, tmp_path / "start.safetensors")
    made = []
    for seed in (2, 3):
        torch.manual_seed(seed)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(made_dir), lora(RANK))
        begin_alike(model, start)
        made.append({name: w for name, w in model.named_parameters() if "lora_" in name})
    assert all(torch.equal(weight, made[1][name]) for name, weight in made[0].items())
    assert all(weight.any() == ("lora_A" in name) for name, weight in made[0].items())


def test_an_adapter_of_another_kind_is_refused(made_dir: Path, tmp_path: Path) -> None:
    start = save_start(made_dir, RANK, 1, tmp_path / "start.safetensors")
    config = lora(RANK)
    config.target_modules = ["q_proj"]
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(made_dir), config)
    with pytest.raises(SystemExit, match="Another adapter"):
        begin_alike(model, start)


def test_a_token_costs_more_where_the_whole_model_learns(made_dir: Path) -> None:
    shape, examples = read_shape(made_dir), [{"input_ids": [1, 2], "labels": [-100, 2]}]
    weights = shape.layers * shape.layer_weights + shape.vocabulary * shape.width / 2
    assert operations_per_token(shape, "full", RANK, examples) == 6 * weights
    assert 4 * weights < operations_per_token(shape, "qlora", RANK, examples) < 6 * weights


def test_what_is_written_beside_the_figures(tmp_path: Path) -> None:
    details = tmp_path / "cpuinfo"
    details.write_text("processor\t: 0\nmodel name\t: Some Processor 9000\n", encoding="utf-8")
    assert processor_name(details) == "Some Processor 9000"
    assert processor_name(tmp_path / "none")
    assert "cores" in describe_computer()
    assert code_version() == "" or len(code_version().removesuffix("-dirty")) == 40


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_every_trainer_does_the_same_from_the_same_start(
    method: str, made_dir: Path, tmp_path: Path
) -> None:
    examples = tokenize(SAMPLES_DIR / "identity.json", build_tiny_tokenizer(), 32)
    source = find_model(str(made_dir), allow_folder=True)
    config = own_config(options(method=method), source.id)
    plan = plan_examples(config, examples, model_facts(source, made_dir), tmp_path)
    job = {
        "model": str(made_dir),
        "method": method,
        "bf16": False,
        "rank": RANK,
        "rate": 2e-4,
        "steps": 2,
        "examples_per_step": 16,
        "examples": examples,
        "start": str(save_start(made_dir, RANK, 1, tmp_path / "start.safetensors")),
        "threads": 1,
    }
    found = {}
    for seed, name in enumerate(("ours", "plain-fp32")):  # what each would draw itself is different
        script, its_own = TRAINERS[name]
        (tmp_path / name).mkdir()
        told = job | its_own | own_job(plan) | {"seed": seed}
        found[name] = run(script, sys.executable, told, tmp_path / name)
    ours, plain = found["ours"], found["plain-fp32"]
    assert ours["losses"] == pytest.approx(plain["losses"], rel=1e-5)
    assert ours["gradient_norms"] == pytest.approx(plain["gradient_norms"], rel=1e-3)
    assert ours["computed_tokens"][0] < sum(len(e["input_ids"]) for e in examples[:16])
    assert plain["computed_tokens"][0] > sum(len(e["input_ids"]) for e in examples[:16])
    assert plain["versions"]["torch"] == torch.__version__
