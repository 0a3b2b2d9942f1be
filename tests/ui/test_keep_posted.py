"""What the browser's tab and its notifications say of a run."""

from __future__ import annotations

import json
from types import SimpleNamespace

from workbench.ui.keep_posted import TITLE, news_of


def news(state, step=0, total_steps=0, *, active):
    snapshot = SimpleNamespace(state=state, step=step, total_steps=total_steps, is_active=active)
    return json.loads(news_of(SimpleNamespace(id="a-1", name='"counting"'), snapshot))


def test_a_run_is_told_by_how_far_it_is_and_by_how_it_ended():
    assert news("running", 3, 12, active=True) == {
        "id": "a-1", "active": True, "title": '25% · "counting"',
    }  # fmt: skip
    assert news("running", active=True)["title"] == 'Running · "counting"'
    ended = news("finished", 12, 12, active=False)
    assert (ended["title"], ended["active"]) == ('Finished · "counting"', False)


def test_without_a_run_there_is_only_the_page():
    assert json.loads(news_of(None, None)) == {"id": "", "active": False, "title": TITLE}
