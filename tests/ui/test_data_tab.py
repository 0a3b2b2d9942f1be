"""The Data tab's handlers and words, without a browser."""

from __future__ import annotations

import json

import pytest

from workbench.ui.data_check import dataset_choices, dataset_names
from workbench.ui.data_mix import HELD_BACK, fill_mix, read_choice
from workbench.ui.data_rows import ROWS_PER_PAGE, _found_words


def add(services, tmp_path, rows, name="train.json"):
    path = tmp_path / name
    path.write_text(json.dumps([{"instruction": f"{n}", "output": "A"} for n in range(rows)]))
    return services.datasets.add(path, name).id


def test_datasets_of_one_name_are_told_apart_and_keep_their_weights(services, tmp_path):
    first, second = (add(services, tmp_path, rows) for rows in (10, 20))
    own = add(services, tmp_path, 30, "identity.json")
    names = dataset_names(services)
    assert (names[first], names[second], names[own]) == (
        "train.json", "train.json (2)", "identity.json (2)",
    )  # fmt: skip
    labels = {identity: label for label, identity in dataset_choices(services)}
    assert labels[second] == "train.json (2) (20 examples)"
    more, weights, _ = fill_mix(services, first, [second], {first: 2, second: 0.5}, HELD_BACK)
    assert weights.value["data"] == [["train.json", 10, 2], ["train.json (2)", 20, 0.5]]
    choice = read_choice(services, [first, more.value, weights.value["data"], HELD_BACK])
    assert [weight for _, weight in choice.parts] == [2, 0.5]


@pytest.mark.parametrize(
    ("pages_before", "found", "words"),
    [
        (0, 0, "No row has these words"),
        (0, 1, "1 to 1 of 1 with these words"),
        (0, ROWS_PER_PAGE + 1, "1 to 50 of those with these words, there are more"),
        (1, ROWS_PER_PAGE + 7, "51 to 57 of 57 with these words"),
        (2, ROWS_PER_PAGE + 7, "only 57 rows with these words"),
    ],
)
def test_the_rows_that_were_found_are_counted(pages_before, found, words):
    assert _found_words(pages_before * ROWS_PER_PAGE, found) == words
