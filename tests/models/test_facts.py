"""What a model's config.json tells of its attention."""

from __future__ import annotations

import pytest
from transformers import AutoConfig

from workbench.models.catalogue import catalogue
from workbench.models.facts import attends_to_all


@pytest.mark.parametrize(
    ("architecture", "plain"),
    [
        ({}, True),
        ({"model_type": "llama"}, True),
        ({"sliding_window": 4096, "max_position_embeddings": 32768}, False),
        ({"sliding_window": 262144, "max_position_embeddings": 131072}, True),  # Phi 3.5
        ({"sliding_window": 4096}, False),
        ({"sliding_window": 4096, "use_sliding_window": False}, True),  # Qwen 2.5
        ({"layer_types": ["full_attention"] * 2, "sliding_window": 8}, True),
        ({"layer_types": ["full_attention", "linear_attention"]}, False),
        ({"text_config": {"sliding_window": 8, "max_position_embeddings": 99}}, False),
        ({"attn_logit_softcapping": 50.0}, False),
    ],
)
def test_what_looks_at_a_window_is_known_before_it_is_loaded(architecture, plain):
    assert attends_to_all(architecture) == plain


KINDS = {entry.architecture["model_type"] for entry in catalogue().values()}


@pytest.mark.parametrize(
    "kind", sorted(KINDS - {"mistral"})
)  # its files say whether it has a window
def test_kinds_in_the_catalogue_are_as_transformers_fills_them_in(kind):
    filled_in = AutoConfig.for_model(kind).to_dict()
    assert attends_to_all({"model_type": kind}) == attends_to_all(filled_in)
