"""What the files of a model say of its weights, against the model itself."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.models.catalogue import catalogue
from workbench.models.headers import linear_layers, typical_shapes, weight_shapes

KINDS = sorted({entry.architecture["model_type"] for entry in catalogue().values()})


def test_names_and_shapes_are_those_of_the_model(tiny_model_dir, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    assert weight_shapes(tiny_model_dir) == {
        name: tuple(weight.shape) for name, weight in model.named_parameters()
    }
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert set(linear_layers(weight_shapes(tiny_model_dir))) == set(linear) - {"lm_head"}


def test_a_second_copy_of_the_weights_is_not_counted(tiny_model_dir, tmp_path):
    weights = (tiny_model_dir / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "consolidated.safetensors").write_bytes(b"of another program")
    assert weight_shapes(tmp_path) == weight_shapes(tiny_model_dir)


@pytest.mark.parametrize("content", [b"", b"short", b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 100])
def test_a_file_that_is_none_has_no_weights(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    assert weight_shapes(tmp_path) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_typical_of_a_kind_is_what_it_has(kind):
    with torch.device("meta"):
        config = AutoConfig.for_model(kind, num_hidden_layers=1, tie_word_embeddings=False)
        model = AutoModelForCausalLM.from_config(config)
    names = {name for name, _ in model.named_parameters() if "bias" not in name}
    assert names <= set(typical_shapes(kind))
    linear = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert set(linear_layers(typical_shapes(kind))) == linear - {"lm_head"}
