"""``workbench plan`` and what it shares with ``train``."""

from __future__ import annotations

import json

import pytest
import yaml

from workbench.cli import main

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
    code = main(
        [
            "train",
            "--data",
            "sample-identity",
            "--model",
            "qwen2.5-14b-instruct",
            "--method",
            "full",
        ]
    )
    assert code == 2
    assert "free" in capsys.readouterr().err
    assert services.runs.ids() == []
