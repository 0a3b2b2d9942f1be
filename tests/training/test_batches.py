import pytest
import torch

from workbench.models.rendering import IGNORED, TokenizedExample
from workbench.training.batches import micro_batches, supervised_tokens


def example(length, prompt=2, first=10):
    ids = list(range(first, first + length))
    return TokenizedExample(ids, [IGNORED] * prompt + ids[prompt:])


EXAMPLES = [example(length, first=100 * length) for length in (9, 3, 7, 12, 5)]


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("budget", [1, 8, 15, 1000])
def test_nothing_is_lost_and_the_budget_is_kept(padded, budget):
    batches = list(micro_batches(EXAMPLES, budget, padded=padded, pad_id=0))
    assert sum(batch.tokens for batch in batches) == 36
    assert sum(len(batch.targets) for batch in batches) == supervised_tokens(EXAMPLES)
    for batch in batches:
        rows = (
            len(batch.inputs["sequence_lengths"]) if not padded else len(batch.inputs["input_ids"])
        )
        assert batch.inputs["input_ids"].numel() <= budget or rows == 1


@pytest.mark.parametrize("padded", [True, False])
def test_the_target_is_the_next_token(padded):
    (batch,) = micro_batches(EXAMPLES, 1000, padded=padded, pad_id=0)
    assert (batch.targets == batch.inputs["input_ids"][batch.supervised] + 1).all()


def test_positions_start_again_in_every_sequence():
    (batch,) = micro_batches([example(3), example(4, first=20)], 1000, padded=False, pad_id=0)
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3]]


def starting_alike(*rests, prompt):
    rows = [[1, 2, 3, 4, *rest] for rest in rests]
    return [TokenizedExample(ids, [IGNORED] * prompt + ids[prompt:]) for ids in rows]


def test_what_all_examples_begin_with_stands_there_once():
    alike = starting_alike([5, 6, 7], [8, 9, 3, 2], prompt=6)
    (batch,) = micro_batches(alike, 1000, padded=False, pad_id=0)
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6, 7, 8, 9, 3, 2]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 4, 5, 6, 7]]
    assert (batch.inputs["sequence_lengths"], batch.inputs["shared_start"]) == ([4, 3, 4], 4)
    assert torch.nonzero(batch.supervised[0]).flatten().tolist() == [5, 8, 9]
    assert batch.targets.tolist() == [7, 3, 2]
    assert batch.tokens == 11


def test_what_predicts_the_first_supervised_token_is_the_rows_own():
    alike = starting_alike([5, 6], [7], prompt=4)
    (batch,) = micro_batches(alike, 1000, padded=False, pad_id=0)
    assert batch.inputs["shared_start"] == 3
    assert batch.inputs["input_ids"].tolist() == [[1, 2, 3, 4, 7, 4, 5, 6]]
    assert batch.targets.tolist() == [7, 5, 6]


@pytest.mark.parametrize("prompt", [0, 1])
def test_nothing_is_shared_where_the_first_tokens_are_supervised(prompt):
    (batch,) = micro_batches(starting_alike([5], [6], prompt=prompt), 1000, padded=False, pad_id=0)
    assert batch.inputs["shared_start"] == 0
    assert batch.inputs["sequence_lengths"] == [5, 5]


def test_the_padding_id_decides_nothing():
    ids = [5, 6, 0, 7]  # 0 is the padding id and a real, supervised token
    padded = micro_batches(
        [TokenizedExample(ids, [IGNORED, IGNORED, 0, 7])], 99, padded=True, pad_id=0
    )
    assert next(padded).targets.tolist() == [0, 7]
