import json

import numpy as np
import pytest

from tests.data.sample_files import ALPACA, as_json
from tests.tiny_model import build_tiny_tokenizer
from workbench.data.conversations import read_conversations
from workbench.models.rendering import tokenize_example
from workbench.models.tokens import (
    HISTOGRAM_BARS,
    histogram,
    read_lengths,
    read_shared_start,
    token_cache_path,
    token_report,
    tokenize_dataset,
)


@pytest.fixture
def dataset(services, tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(as_json(ALPACA))
    return services.datasets.path(services.datasets.add(path, "mine.json").id)


def test_tokens_are_kept_and_are_the_same_from_the_cache(dataset, tiny_model_dir, monkeypatch):
    tokenizer, conversations = build_tiny_tokenizer(), read_conversations(dataset)
    path = token_cache_path(dataset, tiny_model_dir)
    assert read_lengths(path) is None
    fresh = tokenize_dataset(tokenizer, conversations, path)
    assert fresh == [tokenize_example(tokenizer, c["messages"]) for c in conversations]
    monkeypatch.setattr("workbench.models.tokens.tokenize_examples", None)  # not needed any more
    assert tokenize_dataset(tokenizer, conversations, path) == fresh
    assert read_lengths(path).tolist() == [len(example.input_ids) for example in fresh]


def test_what_all_rows_begin_with_is_known(dataset, tiny_model_dir):
    path = token_cache_path(dataset, tiny_model_dir)
    assert read_shared_start(path) == 0
    rows = [
        e.input_ids
        for e in tokenize_dataset(build_tiny_tokenizer(), read_conversations(dataset), path)
    ]
    shared = read_shared_start(path)
    assert shared > 1
    assert len({tuple(ids[:shared]) for ids in rows}) == 1
    assert len({tuple(ids[: shared + 1]) for ids in rows}) > 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"garbage" * 99])
def test_a_torn_cache_is_made_again(dataset, tiny_model_dir, content):
    tokenizer, conversations = build_tiny_tokenizer(), read_conversations(dataset)
    path = token_cache_path(dataset, tiny_model_dir)
    path.write_bytes(content)
    assert len(tokenize_dataset(tokenizer, conversations, path)) == len(ALPACA)
    assert len(read_lengths(path)) == len(ALPACA)
    assert {p.name for p in path.parent.glob("tokens*")} == {path.name}


def test_another_chat_template_is_another_cache(dataset, tiny_model_dir, tmp_path):
    before = token_cache_path(dataset, tiny_model_dir)
    for file in tiny_model_dir.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for file in tiny_model_dir.glob("*.jinja"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert token_cache_path(dataset, tmp_path) == before
    settings_path = tmp_path / "tokenizer_config.json"
    settings_path.write_text(json.dumps({**json.loads(settings_path.read_text()), "x": 1}))
    assert token_cache_path(dataset, tmp_path) != before


def test_the_report_counts_what_is_too_long():
    report = token_report(np.arange(1, 101), 90)
    assert (report.min, report.median, report.p95, report.max) == (1, 50, 95, 100)
    assert (report.total, report.over_limit) == (5050, 10)


@pytest.mark.parametrize("lengths", [[5], [5, 5, 5], [1, 2, 3], [10, 20000], list(range(1, 5000))])
def test_the_histogram_has_every_example_once(lengths):
    bars = histogram(np.array(lengths))
    assert sum(bars.counts) == len(lengths)
    assert len(bars.edges) == len(bars.counts) + 1 <= HISTOGRAM_BARS + 2
    assert bars.edges[0] == min(lengths)
