"""What is said of the models to choose from, and what of it is looked for."""

from __future__ import annotations

import shutil

import pytest

from workbench.errors import WorkbenchError
from workbench.models import store as store_module
from workbench.models.catalogue import catalogue
from workbench.models.hub import HubModel
from workbench.models.sources import find_model
from workbench.ui.configure_choices import method_choices, model_choices, model_words
from workbench.ui.models_view import gated_words, what_is_known

NOT_FOR = ": not for this model."


@pytest.mark.parametrize("typed", ["chinese", "apache", "mit", "laptop", "8 gb", "qwen"])
def test_models_are_found_by_language_licence_hardware_and_name(services, typed):
    labels = [label.lower() for label, _ in model_choices(services)]
    assert 0 < sum(typed in label for label in labels) < len(labels)


def test_a_model_of_ones_own_is_offered_as_soon_as_it_is_there(services, tiny_model_dir):
    assert not any(value.startswith("local:") for _, value in model_choices(services))
    services.settings.local_models_dir.mkdir(parents=True)
    (services.settings.local_models_dir / "mine").symlink_to(tiny_model_dir)
    assert model_choices(services)[0] == ("mine (yours)", "local:mine")


@pytest.mark.parametrize("model_id", catalogue())
def test_words_have_size_context_room_and_licence(model_id):
    entry, words = catalogue()[model_id], model_words(model_id, 35_000_000_000)
    assert f"reads up to {entry.context_tokens:,} tokens" in words
    assert "illion weights" in words
    assert "(this disk has 35.0 GB free)" in words
    assert " to download (" in words
    assert " to download (" not in model_words(model_id, 35_000_000_000, is_here=True)
    assert ("huggingface.co/" + entry.repository in words) == entry.gated


def test_a_model_is_unknown_then_looked_up_then_here(services, monkeypatch, tiny_model_dir):
    def known(model_id="owner/odd"):
        greyed = [label for label, _ in method_choices(services, model_id) if NOT_FOR in label]
        return what_is_known(services, model_id), len(greyed) > 0

    assert known() == known("half typed") == known(None) == ("unknown", False)
    found = HubModel("main", {}, "", False, {"model_type": "gpt2"})
    monkeypatch.setattr(store_module, "look_up_on_hub", lambda *asked: found)
    services.models.look_up(find_model("owner/odd"))
    assert known() == ("looked up", True)
    shutil.copytree(tiny_model_dir, services.models.directory(find_model("owner/odd")))
    assert known() == ("here", False)  # it is a Llama


def test_a_greyed_method_that_is_chosen_all_the_same_is_refused_with_its_reason(services):
    config = services.configure(None, {"model": "qwen3-0.6b", "method": "adapter"})
    with pytest.raises(WorkbenchError, match=r"cannot train qwen3-0.6b\. It works with llama"):
        services.plan(config, services.choose_data({"sample-identity": 1.0}))


def test_a_gated_model_says_where_to_accept_and_where_to_type():
    words = gated_words("meta/llama_3_x")
    assert "](https://huggingface.co/meta/llama_3_x)" in words
    assert "*Access token*" in words
