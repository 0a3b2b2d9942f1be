"""Exports at a strength: each has the logits that the Playground has there."""

from __future__ import annotations

import json
from zipfile import ZipFile

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.export.made import export, make_run
from workbench.cli import main
from workbench.compute import Compute
from workbench.errors import WorkbenchError
from workbench.export import merging
from workbench.inference.loaded import load_models
from workbench.presets import methods
from workbench.runs.strength import keep_strength

FP32 = Compute("cpu", "fp32")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def logits(model):
    with torch.inference_mode():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits[0]


def on_the_playground(run, base_dir, strength):
    """The logits of the chat process, from the very classes it uses."""
    models, _ = load_models(run, base_dir, FP32)
    with models.use("tuned", run.model_dir, strength) as ready:
        return logits(ready.model)


def plain_adapter(run, base_dir, adapter_dir):
    """An exported adapter, loaded by PEFT as its own usage lines say, on the base as it was trained on."""
    squeezed = methods()[run.config.method].base
    base = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=torch.float32, quantization_config=FP32.quantization(squeezed)
    )
    return peft.PeftModel.from_pretrained(base, adapter_dir).eval()


@pytest.mark.parametrize("method", [name for name, m in methods().items() if m.scalable])
def test_an_adapter_and_a_merged_model_say_what_the_playground_says(
    services, alpaca_file, model_dir, tmp_path, method
):
    run = make_run(services, alpaca_file, model_dir, method)
    expected = on_the_playground(run, model_dir, 0.5)
    result = export(services, run, "adapter", tmp_path / "adapter", strength=0.5)
    found = logits(plain_adapter(run, model_dir, tmp_path / "adapter"))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, on_the_playground(run, model_dir, 1.0), atol=0.05)
    words = "Strength of the training: 0.5 ("
    assert result.strength == 0.5
    assert any(words in note for note in result.notes)
    assert words in (tmp_path / "adapter" / "README.md").read_text()

    whole = export(services, run, "merged", tmp_path / "merged", strength=0.5)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    # Squeezed layers also round what goes through them, on the Playground and in training.
    rounded = {"qlora": 0.05, "lora-8bit": 0.15}.get(method, 1e-3)
    far = (logits(merged) - expected).norm() / expected.norm()
    as_trained = on_the_playground(run, model_dir, 1.0)
    assert far < min(rounded, (as_trained - expected).norm() / expected.norm() / 2)
    assert whole.checks["distance"] < rounded
    assert words in (tmp_path / "merged" / "README.md").read_text()


def test_a_gguf_says_what_the_playground_says(run, services, model_dir, tmp_path):
    export(services, run, "gguf", tmp_path / "half.gguf", strength=0.5)
    where = {"pretrained_model_name_or_path": tmp_path, "gguf_file": "half.gguf"}
    found = logits(AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32))
    expected = on_the_playground(run, model_dir, 0.5)
    assert (found - expected).norm() < 0.01 * expected.norm()  # fp16


def test_a_merge_that_forgets_the_strength_is_not_kept(run, services, tmp_path, monkeypatch):
    whole, merge_layer = merging.merge, merging._merge_layer

    def forgetful(layer, dtype):
        layer.scaling = {name: value * 2 for name, value in layer.scaling.items()}
        merge_layer(layer, dtype)

    monkeypatch.setattr(merging, "_merge_layer", forgetful)
    assert merging.merge is whole
    with pytest.raises(WorkbenchError, match="does not say what the tuned model says"):
        export(services, run, "merged", tmp_path / "merged", strength=0.5)


@pytest.mark.parametrize("kind", ["adapter", "merged", "gguf", "ollama"])
def test_at_strength_nothing_there_is_nothing_to_export(run, services, tmp_path, kind):
    with pytest.raises(WorkbenchError, match="nothing to export"):
        export(services, run, kind, tmp_path / ("x.gguf" if kind == "gguf" else "x"), strength=0.0)


@pytest.mark.parametrize("method", ["dora", "oft", "full"])
def test_a_method_without_a_strength_is_refused(services, alpaca_file, model_dir, tmp_path, method):
    run = make_run(services, alpaca_file, model_dir, method)
    with pytest.raises(WorkbenchError, match="cannot be changed; it works for LoRA"):
        export(services, run, "merged", tmp_path / "x", strength=0.5)


def test_the_command_takes_the_strength_that_is_kept_or_another(run, tmp_path, capsys):
    alphas = []
    for kept, asked, expected in ((1, [], 1), (0.5, [], 0.5), (0.5, ["--strength", "0.25"], 0.25)):
        keep_strength(run, kept)
        out = tmp_path / f"{expected}.zip"
        command = ["export", run.id, "--to", "adapter", "--out", str(out), "--json", *asked]
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["strength"] == expected
        with ZipFile(out) as archive:
            alphas.append(json.loads(archive.read("adapter_config.json"))["lora_alpha"])
    whole = json.loads((run.model_dir / "adapter_config.json").read_text())["lora_alpha"]
    assert alphas == [whole, whole * 0.5, whole * 0.25]
