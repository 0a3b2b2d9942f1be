from __future__ import annotations

import json

import pytest

from workbench.ui.configure_choices import NO_PRESET
from workbench.ui.remembering import read_kept


def test_what_the_form_said_comes_back(services):
    said = {"preset": "teach-a-style", "epochs": "7", "method": "full", "learning_rate": ""}
    assert read_kept(services, json.dumps(said)) == (
        "teach-a-style",
        {"epochs": "7", "method": "full", "learning_rate": ""},
    )


def test_a_starting_point_that_is_gone_is_not_chosen_but_its_settings_stay(services):
    assert read_kept(services, '{"preset": "gone", "epochs": 7}') == (NO_PRESET, {"epochs": 7})


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{}",
        "not JSON",
        "[1]",
        "null",
        '{"epochs": -3}',
        '{"colour": "blue"}',
        '{"model": "/etc"}',
        '{"epochs": [1]}',
    ],
)
def test_what_cannot_be_used_does_not_come_back(services, said):
    assert read_kept(services, said) == (NO_PRESET, {})
