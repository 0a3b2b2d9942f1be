"""Numbers in words."""

from __future__ import annotations

import pytest

from workbench.words import describe_duration, describe_rows


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 second"),
        (89, "89 seconds"),
        (90, "2 minutes"),
        (3600, "60 minutes"),
        (5700, "1 hour 35 minutes"),
        (7260, "2 hours 1 minute"),
        (7200, "2 hours"),
    ],
)
def test_a_duration_is_in_the_unit_a_person_would_use(seconds, words):
    assert describe_duration(seconds) == words


def test_one_row_is_not_plural():
    assert (describe_rows(1), describe_rows(1200)) == ("1 row", "1,200 rows")
