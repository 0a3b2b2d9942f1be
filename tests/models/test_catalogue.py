import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.config import STARTER_MODEL
from workbench.hub import is_repository_name
from workbench.models.catalogue import catalogue
from workbench.models.sources import find_model


def test_there_is_something_for_every_computer_and_language():
    entries = catalogue().values()
    assert len(entries) >= 25
    assert min(e.parameters for e in entries) < 150_000_000
    assert max(e.parameters for e in entries) > 14_000_000_000
    assert sum("Chinese" in entry.languages for entry in entries) >= 5
    assert {entry.kind for entry in entries} == {"chat", "thinking", "base"}
    assert len({entry.repository for entry in entries}) == len(entries)


def _weights(sizes):
    """Count the weights of a model of these sizes, without making them."""
    others = {name: size for name, size in sizes.items() if name != "model_type"}
    with torch.device("meta"):
        config = AutoConfig.for_model(sizes["model_type"], **others)
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize("model_id", catalogue())
def test_a_model_has_as_many_weights_as_its_sizes_say(model_id):
    entry = catalogue()[model_id]
    sizes = dict(entry.architecture)
    one, two = (_weights(sizes | {"num_hidden_layers": layers}) for layers in (1, 2))
    assert one + (sizes["num_hidden_layers"] - 1) * (two - one) == entry.parameters
    if model_id != STARTER_MODEL:  # some files hold the tied head a second time
        head = sizes["vocab_size"] * sizes["hidden_size"]
        assert 1.99 * entry.parameters < entry.download_bytes < 2.01 * (entry.parameters + head)
    assert is_repository_name(entry.repository, "model")
    assert find_model(model_id).entry == entry
