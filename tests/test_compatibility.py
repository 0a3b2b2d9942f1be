import sys

import pytest

from workbench import compatibility
from workbench.compatibility import find_conflicts, unavailable_methods
from workbench.config import build_config
from workbench.models.facts import ModelFacts
from workbench.presets import methods

LLAMA = ModelFacts(
    1_000,
    {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "max_position_embeddings": 512,
    },
)
QWEN = ModelFacts(1_000, {"model_type": "qwen2", "hidden_size": 64})


def test_a_llama_can_be_trained_in_every_way_and_so_can_what_is_not_known_yet():
    assert unavailable_methods(LLAMA) == {}
    assert unavailable_methods(ModelFacts()) == {}


def test_what_a_method_cannot_train_is_said_before_the_start():
    reasons = unavailable_methods(QWEN)
    assert set(reasons) == {"adapter"}
    assert "llama, mistral" in reasons["adapter"]
    (conflict,) = find_conflicts(build_config({"method": "adapter", "model": "a/qwen"}), QWEN)
    assert conflict.startswith("Adaption prompt cannot train qwen.")


def test_a_model_that_is_squeezed_already_takes_an_adapter_only():
    squeezed = ModelFacts(1, {"model_type": "llama", "quantization_config": {}})
    assert {"full", "qlora", "pissa"} <= unavailable_methods(squeezed).keys()
    assert "lora" not in unavailable_methods(squeezed)
    assert find_conflicts(build_config({}), squeezed) == []


def test_a_model_that_is_squeezed_in_another_way_cannot_be_trained():
    squeezed = ModelFacts(
        1, {"model_type": "llama", "quantization_config": {"quant_method": "awq"}}
    )
    (conflict,) = find_conflicts(build_config({}), squeezed)
    assert "squeezed with awq" in conflict


NAMED = ModelFacts(
    1_000,
    {"model_type": "llama", "tie_word_embeddings": True},
    {
        "model.layers.0.mlp.up_proj.weight": (8, 4),
        "model.layers.0.self_attn.q_proj.weight": (4, 4),
        "model.norm.weight": (4,),
        "lm_head.weight": (9, 4),
    },
)


@pytest.mark.parametrize(
    ("values", "unknown"),
    [
        ({"target_modules": "all-linear"}, ""),
        ({"target_modules": "q_proj, mlp.up_proj"}, ""),
        ({"target_modules": "q_proj,nothing"}, "layer called nothing. Set it to all-linear, or to"),
        ({"target_modules": "proj"}, "layer called proj."),
        ({"target_modules": "norm"}, "layer called norm."),
        ({"method": "oft", "target_modules": "lm_head"}, "to some of q_proj, up_proj."),
        ({"method": "full", "target_modules": "nothing"}, ""),
        ({"method": "freeze", "trained_parts": "layers"}, ""),
        ({"method": "freeze", "trained_parts": "norm, self_attn"}, ""),
        ({"method": "freeze", "trained_parts": "norm, nothing"}, "part called nothing."),
        ({"method": "freeze", "trained_parts": "lm_head"}, "part called lm_head."),
        ({"trained_parts": "nothing"}, ""),
    ],
)
def test_names_of_layers_and_parts_are_looked_for_before_the_start(values, unknown):
    conflicts = find_conflicts(build_config(values), NAMED)
    assert [unknown in conflict for conflict in conflicts] == ([True] if unknown else [])
    assert find_conflicts(build_config(values), ModelFacts()) == []  # nothing is known of it yet


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "freeze", "trained_layers": 5}, "the model has 4 layers"),
        ({"max_length": 1000}, "reads at most 512 tokens"),
        ({"method": "oft", "oft_block_size": 48}, "must divide the model's width, 64"),
        ({"method": "prefix", "activation_checkpointing": "on"}, "cannot compute its layers twice"),
        (
            {"method": "prefix", "activation_checkpointing": "1/4"},
            "cannot compute its layers twice",
        ),
        ({"report_to": "trackio"}, "trackio is not installed"),
    ],
)
def test_settings_that_do_not_fit_the_model(values, words):
    (conflict,) = find_conflicts(build_config(values), LLAMA)
    assert words in conflict


@pytest.mark.parametrize(
    ("missing", "words"),
    [("g++", "C++ compiler (g++"), ("Python.h", "Python's header files"), ("", "")],
)
def test_what_compiling_needs_is_looked_for_before_the_start(monkeypatch, tmp_path, missing, words):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(compatibility, "which", lambda name: None if name == missing else name)
    monkeypatch.setattr(compatibility.sysconfig, "get_path", lambda name: str(tmp_path))
    if missing != "Python.h":
        (tmp_path / "Python.h").touch()
    conflicts = find_conflicts(build_config({"compile": True}), LLAMA)
    assert [words in conflict for conflict in conflicts] == ([True] if missing else [])
    assert find_conflicts(build_config({}), LLAMA) == []


def test_four_bits_need_a_width_they_can_pack():
    odd = ModelFacts(1, {"model_type": "llama", "hidden_size": 100})
    assert "multiple of 32" in find_conflicts(build_config({"method": "qlora"}), odd)[0]


@pytest.mark.parametrize("method", methods())
def test_the_defaults_of_a_method_do_not_conflict(method):
    assert find_conflicts(build_config({"method": method}), LLAMA) == []
