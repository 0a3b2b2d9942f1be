"""Adapters on one base: which is on, how strongly, and that nothing of it stays."""

from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from peft import (
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
)
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from workbench.asking.products import Way, as_rows, in_parts
from workbench.compute import Compute
from workbench.errors import WorkbenchError
from workbench.inference import loaded
from workbench.inference.loaded import (
    MOST_ADAPTERS,
    MOST_MODELS,
    LoadedAdapters,
    LoadedModels,
    check_strength,
)

FP32 = Compute("cpu", "fp32")
PARTS = Way(torch.float32, in_parts)
IDS = torch.tensor([[5, 6, 7, 8]])
NAMES = ["tuned", *(f"step-{step}" for step in range(MOST_ADAPTERS + 2))]
CONFIGS = {
    "lora": lambda: LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    "rslora": lambda: LoraConfig(r=4, use_rslora=True, task_type="CAUSAL_LM"),
    "dora": lambda: LoraConfig(r=4, use_dora=True, task_type="CAUSAL_LM"),
    "ia3": lambda: IA3Config(task_type="CAUSAL_LM"),
    "prompt": lambda: PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
    "prefix": lambda: PrefixTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"),
}


def load(directory):
    return AutoModelForCausalLM.from_pretrained(directory).eval()


def logits(model):
    with torch.inference_mode():
        found = model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits
    return found[0, -IDS.shape[1] :]


@pytest.fixture(scope="module", params=CONFIGS)
def made(request, tiny_model_dir, tmp_path_factory):
    """A method, the folders of its adapters, and the logits of each as plain PEFT gives them."""
    root = tmp_path_factory.mktemp(request.param)
    found = {}
    for seed, name in enumerate(NAMES):
        torch.manual_seed(seed)
        model = get_peft_model(load(tiny_model_dir), CONFIGS[request.param]())
        for weight in model.parameters():
            if weight.requires_grad:
                torch.nn.init.normal_(weight, std=0.3)
        model.save_pretrained(root / name)
        found[name] = logits(PeftModel.from_pretrained(load(tiny_model_dir), root / name).eval())
    return request.param, root, found


def half_as_strong(adapter_dir, directory):
    """Copy an adapter whose second factor is halved, which halves what it adds."""
    shutil.copytree(adapter_dir, directory)
    path = directory / "adapter_model.safetensors"
    weights = {k: v / 2 if "lora_B" in k else v for k, v in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    return directory


def adapters(made, tiny_model_dir):
    _, root, _ = made
    return LoadedAdapters(load(tiny_model_dir), root / "tuned", FP32, PARTS)


def test_every_order_gives_what_was_asked(made, tiny_model_dir):
    _, root, expected = made
    base = logits(load(tiny_model_dir))
    models = adapters(made, tiny_model_dir)
    for name in itertools.chain(["base"], NAMES, ["base"], reversed(NAMES), ["tuned", "base"]):
        with models.use(name, root / name, 1.0) as ready:
            found = logits(ready.model)
        torch.testing.assert_close(found, base if name == "base" else expected[name])
    assert not torch.allclose(expected["tuned"], expected["step-0"])
    assert not torch.allclose(expected["tuned"], base)


def test_strength_goes_from_the_base_to_the_tuned_model(made, tiny_model_dir, tmp_path):
    method, root, expected = made
    models = adapters(made, tiny_model_dir)
    if method not in ("lora", "rslora"):
        with pytest.raises(WorkbenchError, match="strength of this method cannot be changed"):
            check_strength(models, "tuned", 0.5)
        return
    check_strength(models, "tuned", 0.5)
    base = logits(load(tiny_model_dir))
    half = half_as_strong(root / "tuned", tmp_path / "half")
    middle = logits(PeftModel.from_pretrained(load(tiny_model_dir), half).eval())
    for strength, wanted in ((0, base), (1, expected["tuned"]), (0.5, middle), (0, base)):
        with models.use("tuned", root / "tuned", strength) as ready:
            torch.testing.assert_close(logits(ready.model), wanted)
    with models.use("tuned", root / "tuned", 1.0) as ready:
        assert torch.equal(logits(ready.model), expected["tuned"])


def test_an_answer_that_fails_leaves_nothing_on(made, tiny_model_dir):
    _, root, expected = made
    models = adapters(made, tiny_model_dir)
    for name, strength in (("base", 1.0), ("tuned", 0.5 if models.can_scale else 1.0)):
        with pytest.raises(RuntimeError), models.use(name, root / name, strength):
            raise RuntimeError
    with models.use("tuned", root / "tuned", 1.0) as ready:
        torch.testing.assert_close(logits(ready.model), expected["tuned"])
    with models.use("base", root, 1.0) as ready:
        torch.testing.assert_close(logits(ready.model), logits(load(tiny_model_dir)))


def test_a_base_has_no_strength(tiny_model_dir):
    models = LoadedModels(load, FP32, PARTS)
    check_strength(models, "base", 1.0)
    for name, words in (("base", "has no adapter"), ("tuned", "cannot be changed")):
        with pytest.raises(WorkbenchError, match=words):
            check_strength(models, name, 0.5)


def test_few_whole_models_are_kept(tiny_model_dir, tmp_path):
    loaded = []

    def remember(directory):
        loaded.append(directory.name)
        model = load(tiny_model_dir)
        model.test_name = directory.name
        return model

    models = LoadedModels(remember, FP32, PARTS)
    for name in ("base", "tuned", "base", "step-1", "step-2", "base", "tuned"):
        fits, before = models.has_room_for(name), len(loaded)
        with models.use(name, tmp_path / name, 1.0) as ready:
            assert ready.model.test_name == name
        assert fits == (before < MOST_MODELS or len(loaded) == before)
    assert MOST_MODELS == 3
    assert loaded == ["base", "tuned", "step-1", "step-2", "tuned"]


def test_small_models_may_take_more_memory_to_answer_faster(tiny_model_dir, monkeypatch):
    tried = []
    monkeypatch.setattr(loaded, "fastest_way", lambda *tried_now: tried.append(tried_now) or PARTS)
    bf16 = Compute("cpu", "bf16")
    assert loaded._way(tiny_model_dir, bf16) is PARTS
    monkeypatch.setattr(loaded, "SMALL_BYTES", 0)
    loaded._way(tiny_model_dir, bf16)
    loaded._way(tiny_model_dir, FP32)
    assert [formats for formats, *_ in tried] == [
        [torch.bfloat16, torch.float32], [torch.bfloat16], [torch.float32],
    ]  # fmt: skip
    assert loaded._way(tiny_model_dir, Compute("cuda", "bf16")) == Way(torch.bfloat16, as_rows)
    assert len(tried) == 3
