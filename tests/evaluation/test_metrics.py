"""Metrics against values worked out by hand, and against the libraries on the same answers."""

from __future__ import annotations

import math
import random

import pytest
from sacrebleu.metrics import BLEU, CHRF
from sklearn.metrics import accuracy_score, f1_score

from workbench.evaluation.intervals import Figure, macro_f1, mean, ratio, share
from workbench.evaluation.metrics import HEADLINES, KINDS, Scored, measure
from workbench.evaluation.tasks import (
    NO_LABEL,
    TASKS,
    LabelReader,
    all_labels,
    choose_task,
    ends_on_number,
    final_number,
    json_fields,
    labels_of,
    read_json,
)
from workbench.evaluation.text import bleu_tokenizer, repetition, words


def scored(expected, answer, *, tokens=4, ended=True, loss=2.0, correct=1, supervised=2):
    return Scored(expected, answer, tokens, ended, loss, correct, supervised)


def rows_of(*pairs):
    return [scored(expected, answer) for expected, answer in pairs]


@pytest.mark.parametrize(
    ("expected", "task"),
    [
        (["positive", "negative"] * 6, "labels"),
        (['{"a": 1}', '{"a": [2]}', "[3]"] * 4 + ["none"], "json"),
        (["12", "13.5", "-4", "1,200", "7 %"], "number"),
        ([f"First we add, so #### {n}" for n in range(30)], "number"),
        ([f"I am Juniper, answer {n} of many." for n in range(30)], "text"),
        (["1", "2"] * 10, "labels"),
        (["positive", "negative"] * 1000 + ["positive, since " + "I liked it " * 9], "labels"),
        (["yes", "no"] * 40 + [f"It depends, {n}." for n in range(20)], "text"),
        ([], "text"),
    ],
)
def test_the_kind_of_answers_is_told_from_the_data(expected, task):
    assert choose_task(expected) == task


def test_labels_are_read_whatever_their_case_and_punctuation():
    reader = LabelReader(["positive", "very positive", "C++"])
    assert reader.read(" Positive.\n") == "positive"
    assert reader.read('"very  positive"') == "very positive"
    assert reader.read("c++") == "C++"
    assert reader.read("It is positive") == NO_LABEL
    assert reader.find("It is very positive!") == "very positive"
    assert reader.find("not unpositive") == NO_LABEL
    assert reader.find("positive, or C++") == NO_LABEL
    alike = LabelReader(["A", "a"])
    assert [alike.read("A"), alike.read("a "), alike.read("A.")] == ["A", "a", NO_LABEL]
    assert LabelReader(["+", "-"]).read("-") == "-"


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("So 3 + 4 = 7.", 7),
        ("#### 42 (not 43)", 42),
        (r"thus \boxed{-1.5} in 2 steps", -1.5),
        ("$1,234.50", 1234.5),
        ("1e3", 1000),
        (".5", 0.5),
        ("nothing", None),
        ("", None),
        ("9" * 400, None),
    ],
)
def test_the_number_an_answer_comes_to(answer, number):
    assert final_number(answer) == number


def test_an_answer_that_goes_on_after_its_number_does_not_end_on_it():
    assert ends_on_number("It is 42.")
    assert not ends_on_number("It was founded in 2024 in Paris")


@pytest.mark.parametrize(
    "answer", ["{", "NaN", '{"a": Infinity}', "[" * 5000, "", "null", "{'a': 1}"]
)
def test_what_is_no_json(answer):
    assert read_json(answer) is None


def test_the_fields_of_json():
    fields = json_fields({"a": {"b": 1}, "c": [2, 2, True], "d": {}})
    assert fields == {("a.b", "1"): 1, ("c[]", "2"): 2, ("c[]", "true"): 1, ("d", "{}"): 1}


def test_label_figures_by_hand():
    rows = rows_of(
        ("yes", "Yes."), ("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "no idea, no"), ("?!", "no")
    )  # fmt: skip
    found = measure("labels", rows, ["yes", "no"])
    assert found.unusable == 1
    assert found.rows[5] is None
    assert found.figures["accuracy"].value == 3 / 5
    assert found.figures["accuracy_in_sentence"].value == 4 / 5
    assert found.figures["no_label"].value == 1 / 5
    assert found.confusion.labels == ["yes", "no", NO_LABEL]
    assert found.confusion.counts == [[2, 1, 0], [0, 1, 1], [0, 0, 0]]
    yes, no = found.parts
    assert (yes.precision, yes.recall, yes.count) == (1.0, 2 / 3, 3)
    assert (no.precision, no.recall, no.f1) == (0.5, 0.5, 0.5)
    assert found.figures["macro_f1"].value == pytest.approx((0.8 + 0.5) / 2)


def test_label_figures_are_those_of_scikit_learn():
    choice = random.Random(1)
    labels = ["a", "b", "c"]
    pairs = [(choice.choice(labels), choice.choice([*labels, "what?"])) for _ in range(200)]
    found = measure("labels", rows_of(*pairs), labels).figures
    truth, answered = zip(*pairs, strict=True)
    assert found["accuracy"].value == pytest.approx(accuracy_score(truth, answered))
    expected = f1_score(truth, answered, labels=labels, average="macro", zero_division=0)
    assert found["macro_f1"].value == pytest.approx(expected)
    assert found["macro_f1"].low < expected < found["macro_f1"].high


def test_json_figures_by_hand():
    rows = rows_of(
        ('{"a": 1, "b": "x"}', '{"b": "x", "a": 1}'),
        ('{"a": 1, "b": "x"}', '{"a": 2, "b": "x", "c": 0}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 1}', "```json"),
        ("broken", "{}"),
    )
    found = measure("json", rows)
    assert found.unusable == 1
    assert found.figures["valid_json"].value == 3 / 4
    assert found.figures["exact_match"].value == 1 / 4
    # 3 of 6 expected and 6 answered fields are right
    assert found.figures["field_f1"].value == pytest.approx(2 * 3 / (6 + 6))
    assert found.rows[1].score == pytest.approx(2 / 5)
    by_name = {part.name: part for part in found.parts}
    assert (by_name["a"].precision, by_name["a"].recall) == (1 / 3, 1 / 4)
    assert by_name["b"].f1 == 1.0


def test_number_figures_by_hand():
    rows = rows_of(("2+2 is 4", "4.0"), ("#### 5", "no idea"), ("7", "8"), ("who knows", "1"))
    found = measure("number", rows)
    assert found.unusable == 1
    assert found.figures["numeric_match"].value == 1 / 3
    assert found.figures["no_number"].value == 1 / 3
    assert [row and row.right for row in found.rows] == [True, False, False, None]


@pytest.mark.parametrize(
    ("tokenizer", "pairs"),
    [
        ("13a", [("the cat sat on the mat", "the cat is on the mat"), ("hello there", "hello you")]),
        ("zh", [("我叫小明,很高兴认识你。", "我叫小红,很高兴见到你。"), ("今天天气很好", "今天天气不好")]),
        ("char", [("私の名前はジュニパーです", "私の名前はマリアです"), ("はい、そうです", "いいえ")]),
    ],
)  # fmt: skip
def test_text_figures_are_those_of_sacrebleu(tokenizer, pairs):
    expected, answers = map(list, zip(*pairs, strict=True))
    assert bleu_tokenizer(expected) == tokenizer
    found = measure("text", rows_of(*pairs)).figures
    bleu = BLEU(tokenize=tokenizer).corpus_score(answers, [expected]).score
    assert found["bleu"].value == pytest.approx(bleu)
    assert found["chrf"].value == pytest.approx(CHRF().corpus_score(answers, [expected]).score)
    assert found["chrf"].low <= found["chrf"].value <= found["chrf"].high


def test_rouge_l_by_hand_in_every_script():
    rows = rows_of(("the cat sat", "the dog sat"), ("我很好", "我好"), ("Müller", "Müller"))
    assert measure("text", rows[:1]).figures["rouge_l"].value == pytest.approx(2 / 3)
    assert measure("text", rows[1:2]).figures["rouge_l"].value == pytest.approx(4 / 5)
    assert measure("text", rows[2:]).figures["rouge_l"].value == 1.0
    assert words("Hi_there 我好") == ["hi", "there", "我", "好"]


def test_an_empty_reference_is_counted_and_in_no_figure():
    found = measure("text", rows_of(("", "something"), ("same", "same")))
    assert found.unusable == 1
    assert found.figures["chrf"].count == 1
    assert found.figures["exact_match"].value == 1.0


def test_what_is_always_measured_by_hand():
    rows = [
        scored("a", "", tokens=0, loss=1.0, supervised=1, correct=1),
        scored("a", "a b c d a b c d", tokens=8, ended=False, loss=5.0, supervised=3, correct=0),
    ]
    found = measure("text", rows).figures
    assert found["loss"].value == 6 / 4
    assert found["loss"].count == 4
    assert found["perplexity"].value == pytest.approx(math.exp(1.5))
    assert found["token_accuracy"].value == 1 / 4
    assert found["empty"].value == found["never_ending"].value == 0.5
    assert found["answer_tokens"].value == 4
    # 5 sequences of 4 words, of which one came twice; the empty answer has none
    assert found["repetition"].value == repetition(rows[1].answer) == pytest.approx(1 / 5)


def test_every_task_can_be_chosen_for_any_data_and_for_none():
    for task in TASKS:
        found = measure(task, rows_of(("a", "b"), ("{}", "1")))
        assert HEADLINES[task] in found.figures
        assert set(found.figures) <= set(KINDS)
        assert measure(task, []).rows == []


def test_twenty_right_answers_are_no_proof():
    found = share([True] * 20)
    assert found.value == 1.0
    assert found.low == pytest.approx(0.8389, abs=1e-3)  # Wilson by hand: 20 / (20 + 1.96²)
    assert found.high == pytest.approx(1.0)
    assert share([]).value is None


def test_the_bootstrap_is_near_what_theory_says_and_repeats():
    values = [float(i % 2) for i in range(400)]
    found = mean(values)
    assert found.low == pytest.approx(0.5 - 1.96 * math.sqrt(0.25 / 400), abs=0.01)
    assert found.high == pytest.approx(0.5 + 1.96 * math.sqrt(0.25 / 400), abs=0.01)
    assert mean(values) == found
    assert ratio([1.0], [2.0]) == Figure(0.5, None, None, 1)
    assert ratio([], []).value is None
    assert macro_f1([], [], 2).value is None


def test_a_small_file_has_the_labels_of_what_was_learned():
    learned = ["good", "bad", "so so"] * 30
    assert choose_task(["good"] * 3, learned) == "labels"
    assert set(all_labels(["good", "bad"] * 6, learned)) == {"good", "bad", "so so"}
    assert choose_task([f"Answer {n} of many words." for n in range(30)], learned) == "text"
    assert all_labels(["A", "B"] * 10, [f"I am {n}" for n in range(300)]) == ["A", "B"]


def test_no_answer_is_no_label():
    found = measure("labels", rows_of(("", ""), ("Some words", "Some words"), ("Others", "")))
    assert found.rows[0] is None
    assert (found.unusable, found.figures["accuracy"].value) == (1, 0.5)
    assert labels_of(["", "yes", "no"] * 10 + ["no", "yes"] * 90) == ["yes", "no"]


def test_json_numbers_are_the_same_however_written_and_lists_have_an_order():
    pairs = [
        ('{"a": 1, "b": [1, 2]}', '{"b": [1.0, 2], "a": 1.0}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": 1}', '{"a": true}'),
    ]
    found = measure("json", rows_of(*pairs))
    assert [row.right for row in found.rows] == [True, False, False]
    assert [row.score for row in found.rows] == [1.0, 1.0, 0.0]


def test_labels_come_from_all_answers():
    assert labels_of(["yes"] * 5 + ["no"] * 6) == ["no", "yes"]
    assert labels_of(["yes", "no"]) == []


def test_hundreds_of_labels_have_no_picture():
    rows = rows_of(*((f"answer {n}", f"answer {n if n % 2 else 0}") for n in range(300)))
    found = measure("labels", rows)
    assert found.confusion is None
    assert found.figures["accuracy"].value == 151 / 300
    assert found.figures["macro_f1"].low is None
