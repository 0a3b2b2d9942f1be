"""The strength that is kept with a run."""

from __future__ import annotations

import json

import pytest

from tests.made_runs import make_run
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.presets import methods
from workbench.runs.strength import (
    can_scale,
    chosen_strength,
    keep_strength,
    kept_strength,
    strength_words,
)
from workbench.ui.views import run_status

OTHERS = [name for name, method in methods().items() if not method.scalable]


@pytest.fixture
def run(services):
    return make_run(services.runs)


def test_a_strength_is_kept_and_another_one_may_be_asked_for(run):
    assert (kept_strength(run), chosen_strength(run, None)) == (1, 1)
    keep_strength(run, 0.15000000000000002)
    assert (kept_strength(run), chosen_strength(run, None), chosen_strength(run, 0.4)) == (
        0.15, 0.15, 0.4,
    )  # fmt: skip
    assert [path.name for path in run.directory.glob("*strength*")] == ["strength.json"]
    keep_strength(run, 1)
    assert kept_strength(run) == 1


@pytest.mark.parametrize("strength", [-0.1, 2.01, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(run, strength):
    with pytest.raises(WorkbenchError, match="must be from 0 to 2"):
        keep_strength(run, strength)
    assert kept_strength(run) == 1


@pytest.mark.parametrize("method", OTHERS)
def test_methods_without_a_strength_say_so(services, run, method):
    other = make_run(services.runs, "other", {"method": method})
    assert (can_scale(run), can_scale(other)) == (True, False)
    assert chosen_strength(other, 1.0) == 1
    with pytest.raises(WorkbenchError, match=r"The strength of .* cannot be changed; it works for"):
        keep_strength(other, 0.5)


@pytest.mark.parametrize("text", ["", "{}", '{"strength": "much"}', '{"strength": null}', "[1]"])
def test_a_damaged_file_is_a_sentence(run, text):
    (run.directory / "strength.json").write_text(text)
    with pytest.raises(WorkbenchError, match=r"cannot be read: .*strength\.json"):
        kept_strength(run)


def test_it_is_shown_where_the_run_is_shown(services, run, capsys):
    snapshot = services.supervisor.summary(run)
    words = "Strength of the training: 0.5 (0 is the model before training, 1 as trained)."
    assert "Strength" not in run_status(run, snapshot)
    keep_strength(run, 0.5)
    assert (strength_words(0.5), strength_words(1)) == (words, "")
    assert words in run_status(run, snapshot, kept_strength(run))
    assert main(["show", run.id]) == 0
    assert words in capsys.readouterr().out
    main(["show", run.id, "--json"])
    assert json.loads(capsys.readouterr().out)["strength"] == 0.5
