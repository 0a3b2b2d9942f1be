"""The real tokenizer process with the tiny model."""

from __future__ import annotations

import os
import threading

import pytest

from tests.data.sample_files import ALPACA, as_json
from tests.waiting import wait_until
from workbench import tokenizing
from workbench.errors import WorkbenchError
from workbench.models.tokens import read_lengths, token_cache_path
from workbench.tokenizing import TokenizerProcess

LONG = [
    {"role": "user", "content": "question " * 30},
    {"role": "assistant", "content": "Yes \U0001f600."},
]


@pytest.fixture
def tokenizer(settings):
    tokenizer = TokenizerProcess(settings)
    yield tokenizer
    tokenizer.close()


def test_one_row_is_shown_as_the_trainer_takes_it(tokenizer, tiny_model_dir):
    whole = tokenizer.preview(tiny_model_dir, LONG, 1000, "drop")
    assert (whole.fate, whole.tokens) == ("kept", 299)
    assert "".join(text for text, counts in whole.pieces if counts) == "Yes \U0001f600.<|im_end|>"
    assert tokenizer.preview(tiny_model_dir, LONG, 100, "drop").fate == "dropped"
    cut = tokenizer.preview(tiny_model_dir, LONG, 100, "cut")
    assert (cut.fate, cut.tokens) == ("cut", 100)


def test_a_dataset_is_counted_into_its_cache(tokenizer, services, tmp_path, tiny_model_dir):
    (tmp_path / "mine.json").write_bytes(as_json(ALPACA))
    info = services.datasets.add(tmp_path / "mine.json", "mine.json")
    path = services.datasets.path(info.id)
    tokenizer.count(tiny_model_dir, path)
    assert len(read_lengths(token_cache_path(path, tiny_model_dir))) == len(ALPACA)


def test_a_folder_without_a_tokenizer_is_a_sentence_and_the_next_one_works(
    tokenizer, tmp_path, tiny_model_dir
):
    with pytest.raises(WorkbenchError, match="The tokenizer failed"):
        tokenizer.preview(tmp_path, LONG, 100, "drop")
    assert tokenizer.preview(tiny_model_dir, LONG, 1000, "drop").tokens == 299


def test_a_process_that_died_is_told_and_started_again(tokenizer, tiny_model_dir):
    tokenizer.preview(tiny_model_dir, LONG, 1000, "drop")
    process = tokenizer._process
    process.kill()
    process.wait()
    assert tokenizer.preview(tiny_model_dir, LONG, 1000, "drop").tokens == 299


def test_closing_does_not_wait_for_a_long_count(tokenizer, tiny_model_dir, tmp_path):
    endless = tmp_path / "conversations.jsonl"
    os.mkfifo(endless)  # nobody writes: counting never ends by itself
    counting = threading.Thread(target=tokenizer.count, args=(tiny_model_dir, endless))
    counting.start()
    wait_until(lambda: tokenizer._lock.locked() and tokenizer._process)
    closing = threading.Thread(target=tokenizer.close, daemon=True)
    closing.start()
    closing.join(10)
    counting.join(10)
    assert not closing.is_alive()
    assert not counting.is_alive()
    assert tokenizer.preview(tiny_model_dir, LONG, 1000, "drop").tokens == 299


def test_it_ends_when_idle(tokenizer, tiny_model_dir, monkeypatch):
    monkeypatch.setattr(tokenizing, "IDLE_SECONDS", 0.1)
    tokenizer.preview(tiny_model_dir, LONG, 1000, "drop")
    assert tokenizer._process is None or tokenizer._process.wait(10) is not None
