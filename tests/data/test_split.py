import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.split import held_back_rows, split_rows, weighted, weighted_rows


def talk(question, answer="A"):
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


@pytest.mark.parametrize("count", [1, 2, 10, 200])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_different_questions_are_split_as_planned(count, share):
    rows = [talk(f"Q{n}", f"answer {n}") for n in range(count)]
    train, validation = split_rows(rows, share, seed=3)
    assert sorted(train + validation) == list(range(count))
    assert len(validation) == held_back_rows(count, share)
    assert (train, validation) == split_rows(rows, share, seed=3)
    if count == 200 and share:
        assert (train, validation) != split_rows(rows, share, seed=4)


@settings(max_examples=200, deadline=None)
@given(
    questions=st.lists(st.sampled_from(["a", "A ", "b", " b\n", "c", "d", "e"]), min_size=1),
    share=st.sampled_from([0.05, 0.2, 0.5]),
    seed=st.integers(0, 5),
)
def test_the_same_question_is_never_on_both_sides(questions, share, seed):
    rows = [talk(question, f"answer {n}") for n, question in enumerate(questions)]
    train, validation = split_rows(rows, share, seed)
    assert sorted(train + validation) == list(range(len(rows)))
    assert train
    asked = [[questions[i].strip().lower() for i in side] for side in (train, validation)]
    assert not set(asked[0]) & set(asked[1])
    off = len(validation) - held_back_rows(len(rows), share)
    for question in set(
        asked[0]
    ):  # one question more would be no nearer, or leave nothing to train on
        size = asked[0].count(question)
        assert abs(off + size) >= abs(off) or size == len(train)


@pytest.mark.parametrize(("times", "held_back"), [(2, 4), (10, 10), (50, 0)])
def test_questions_that_repeat_are_held_back_whole_as_near_as_that_goes(times, held_back):
    rows = [talk(f"Q{n // times}", f"answer {n}") for n in range(100)]
    _, validation = split_rows(rows, 0.05 if times > 2 else 0.04, seed=0)
    assert len(validation) == held_back


def test_every_label_is_held_back_when_there_are_rows_enough():
    rows = [talk(f"Q{n}", "rare" if n < 5 else "ham") for n in range(400)]
    for seed in range(5):
        _, validation = split_rows(rows, 0.05, seed)
        answers = [rows[index]["messages"][-1]["content"] for index in validation]
        assert (answers.count("ham"), answers.count("rare")) == (19, 1)


def test_labels_whose_questions_repeat_still_give_as_many_rows_as_planned():
    rows = [talk(f"Q{n // 2}", f"label {n // 2 % 10}") for n in range(200)]
    _, validation = split_rows(rows, 0.05, seed=0)
    answers = {rows[index]["messages"][-1]["content"] for index in validation}
    assert (len(validation), len(answers)) == (10, 5)


def test_labels_are_held_back_in_proportion():
    rows = [talk(f"Q{n}", "spam" if n % 10 == 0 else "ham") for n in range(400)]
    for seed in range(5):
        _, validation = split_rows(rows, 0.1, seed)
        answers = [rows[index]["messages"][-1]["content"] for index in validation]
        assert (answers.count("ham"), answers.count("spam")) == (36, 4)


@pytest.mark.parametrize(
    ("count", "weight", "expected"),
    [(10, 1, 10), (10, 0.5, 5), (10, 2.5, 25), (3, 0.01, 1), (0, 2, 0)],
)
def test_a_weight_says_how_often_rows_are_seen(count, weight, expected):
    items = weighted(range(count), weight, seed=1)
    assert len(items) == weighted_rows(count, weight) == expected
    seen = [items.count(item) for item in range(count)]
    assert max(seen, default=0) - min(seen, default=0) <= 1
    assert items == weighted(range(count), weight, seed=1)
