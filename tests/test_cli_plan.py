"""``workbench plan`` and what it shares with ``train``."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml

from workbench import services as services_module
from workbench.cli import main
from workbench.config import build_config
from workbench.data.formats import Mapping
from workbench.equivalent import as_command
from workbench.errors import WorkbenchError
from workbench.models.sources import find_model
from workbench.settling import GENERAL_TOKENS

BIG = ["--data", "sample-identity", "--model", "qwen2.5-14b-instruct", "--method", "full"]
ALWAYS = {
    "steps", "examples", "tokens", "supervised_tokens", "seconds", "peak_memory_bytes", "disk_bytes",
    "device", "warnings",
}  # fmt: skip


@pytest.fixture
def plan(settings, services, tiny_model_dir, alpaca_file, capsys):
    """Run ``workbench plan --json`` on the tiny model."""

    def run(*extra):
        arguments = ["plan", "--data", str(alpaca_file), "--model", str(tiny_model_dir), *extra]
        code = main([*arguments, "--json"])
        captured = capsys.readouterr()
        return json.loads(captured.out) if code == 0 else captured.err

    return run


def test_a_plan_has_every_number_and_starts_nothing(plan, services):
    made = plan("--set", "epochs=2", "batch_size=10")
    assert set(made) >= ALWAYS
    assert (made["steps"], made["examples"]) == (6, 30)
    assert 0 < made["supervised_tokens"] < made["tokens"]
    assert made["config"]["max_length"] == 64
    assert services.runs.ids() == []


def test_the_yaml_of_a_plan_gives_the_same_plan(plan, tmp_path):
    made = plan("--set", "epochs=2", "lora_rank=8", "--method", "rslora")
    path = tmp_path / "settings.yaml"
    path.write_text(made["yaml"], encoding="utf-8")
    assert yaml.safe_load(made["yaml"])["lora_rank"] == 8
    again = plan("--config", str(path))
    assert again["config"] == made["config"]
    assert "--set epochs=2" in made["command"]
    assert "--method rslora" in made["command"]


def test_the_command_of_a_plan_gives_the_same_plan_also_for_what_the_page_was_given(
    services, tmp_path, tiny_model_dir, capsys
):
    path = tmp_path / "of the page.csv"
    path.write_text("a,b\n" + "".join(f"What is {n}?,A number.\n" for n in range(40)))
    mapping = Mapping(question="b", answer="a")  # the other way round than it would be guessed
    uploaded = services.datasets.add(path, path.name, mapping)
    path.unlink()
    data = services.choose_data({uploaded.id: 2.0}, "sample-reviews")
    config = build_config({"model": str(tiny_model_dir), "epochs": 2})
    command = as_command(services.plan(config, data), data)
    assert f"--data {uploaded.id}:2 --validation sample-reviews" in command
    program, verb, *options = shlex.split(command)
    assert (program, verb) == ("workbench", "train")
    assert main(["plan", *options, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["examples"], made["command"]) == (80, command)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("--set", "max_length=9999"), "reads at most 512 tokens"),
        (("--method", "freeze", "--set", "trained_layers=9"), "the model has 2 layers"),
        (("--config", "nowhere.yaml"), "cannot be read"),
        (("--config", "constraints.txt"), "has no settings"),
    ],
)
def test_what_cannot_work_is_a_sentence(plan, extra, words):
    assert words in plan(*extra)


def test_a_run_that_does_not_fit_is_refused_unless_forced(plan, services, monkeypatch, capsys):
    config = services.configure(None, {"method": "full", "model": "qwen2.5-14b-instruct"})
    data = services.choose_data({"sample-identity": 1.0})
    made = services.plan(config, data)
    assert made.fit == "will not fit"
    code = main(["train", *BIG])
    assert code == 2
    assert "free" in capsys.readouterr().err
    assert services.runs.ids() == []
    forced = ["--force", "--detach", "--set", "max_steps=1"]
    monkeypatch.setattr(services_module.Supervisor, "start", lambda supervisor, run, *more: None)
    assert main(["train", *BIG, *forced]) == 0
    assert services.runs.get("latest").config.model == "qwen2.5-14b-instruct"


def test_rows_are_counted_also_where_the_longest_is_given(
    services, tiny_model_dir, alpaca_file, monkeypatch
):
    monkeypatch.setattr(services_module.Supervisor, "start", lambda supervisor, run, *more: None)
    data = ["--data", str(alpaca_file), "--model", str(tiny_model_dir)]
    assert main(["train", *data, "--set", "max_length=64", "--detach"]) == 0
    (info,) = services.datasets.uploads()
    source = find_model(str(tiny_model_dir), allow_folder=True)
    assert services.token_lengths(info, source) is not None


def test_general_examples_are_those_that_were_picked_and_as_many(services, tmp_path):
    path = tmp_path / "mine.json"
    rows = [{"instruction": f"Is {n} a number?", "output": "It is."} for n in range(30)]
    path.write_text(json.dumps(rows))
    mine = services.datasets.add(path, path.name)
    data = services.choose_data({"sample-identity": 1.0})

    def made(**values):
        config = services.configure(None, {"batch_size": 8, **values})
        return services.plan(config, data)

    few, many = made(), made(general_data=mine.id, general_share=1.5)
    run = services.create_run(many, data, "mine")
    assert (run.data.general.id, run.data.general.row_count) == (mine.id, 30)
    assert services.create_run(few, data, "usual").data.general.id == "sample-general"
    assert [plan.config.general_rows_per_step(100) for plan in (few, many)] == [2, 12]
    added = many.work.tokens_per_step - few.work.tokens_per_step
    assert added == pytest.approx(10 * GENERAL_TOKENS)
    with pytest.raises(WorkbenchError, match="There is no dataset 'gone'"):
        made(general_data="gone")


def test_a_probe_replaces_the_estimates_by_what_it_measured(plan, services):
    settings = ("--set", "batch_size=2", "keep_general=false")
    assert plan(*settings)["measured"] is None
    made = plan(*settings, "--probe")
    assert made["seconds_source"] == "measured in a test drive"
    assert made["measured"]["peak_memory_bytes"] == made["peak_memory_bytes"] > 0
    assert made["measured"]["tokens_per_second"] > 0
    assert plan(*settings)["measured"] == made["measured"]  # it is kept
    assert services.runs.ids() == []
