"""A dozen plain questions say what a figure hides: that a model forgot how to answer."""

from __future__ import annotations

from workbench.evaluation.plain import MANY_LOST, PlainRow, has_forgotten, plain_words


def rows(lost, kept=8):
    right = PlainRow("2+2?", "4", "4", True, True)
    wrong = PlainRow("2+2?", "4", "Arr!", True, False)
    return [right] * kept + [wrong] * lost


def test_one_or_two_lost_are_no_forgetting_and_many_are():
    assert not has_forgotten([])
    assert not has_forgotten(rows(MANY_LOST - 1))
    assert has_forgotten(rows(MANY_LOST))
    never_known = PlainRow("2+2?", "5", "5", False, False)
    assert not has_forgotten([never_known] * 12)


def test_what_is_lost_is_counted():
    assert plain_words(rows(3)).endswith(
        "it answers 8 rightly, before training 11; 3 that it knew are wrong now."
    )
