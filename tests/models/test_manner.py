"""What is said of base and thinking models, from their files alone."""

from __future__ import annotations

import json

import pytest

from tests.models.test_rendering import THINKING_TEMPLATE
from tests.tiny_model import CHAT_TEMPLATE, build_tiny_tokenizer
from workbench.models.catalogue import catalogue
from workbench.models.manner import (
    BASE,
    NO_TEMPLATE,
    THINKING,
    chat_template,
    completes_only,
    manner_words,
)
from workbench.models.rendering import FALLBACK_TEMPLATE
from workbench.models.sources import find_model

STRANGER = find_model("somebody/some-model")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, NO_TEMPLATE),
        (FALLBACK_TEMPLATE, NO_TEMPLATE),
        (CHAT_TEMPLATE, ""),
        (THINKING_TEMPLATE, THINKING),
    ],
)
def test_the_files_of_a_model_say_how_it_talks(tmp_path, template, expected):
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert manner_words(STRANGER, tmp_path) == expected
    assert completes_only(STRANGER, tmp_path) == (NO_TEMPLATE if expected == NO_TEMPLATE else "")
    assert chat_template(tmp_path) == (template or "")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHAT_TEMPLATE, CHAT_TEMPLATE),
        ([{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}], "y"),
        ([{"name": "tool_use", "template": "x"}], ""),
    ],
)
def test_a_template_may_lie_in_the_settings_of_the_tokenizer(tmp_path, template, expected):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert chat_template(tmp_path) == expected


@pytest.mark.parametrize("model_id", catalogue())
def test_before_the_download_the_catalogue_says_it(model_id, tmp_path):
    source = find_model(model_id)
    expected = {"base": BASE, "thinking": THINKING, "chat": ""}[source.entry.kind]
    assert manner_words(source, tmp_path) == expected
    assert completes_only(source, tmp_path) == (BASE if expected == BASE else "")


def test_a_plan_warns_of_a_model_that_was_not_taught_to_chat(services):
    def warnings(model):
        config = services.configure(None, {"model": model})
        return services.plan(config, services.choose_data({"sample-identity": 1})).warnings

    assert warnings("qwen2.5-0.5b") == (BASE,)
    assert warnings("qwen2.5-0.5b-instruct") == ()
