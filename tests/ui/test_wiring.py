"""The listeners of the page, before any browser opens it."""

from __future__ import annotations

from workbench.services import Services
from workbench.settings import Settings
from workbench.ui.app import build_app


def changed_by_itself(functions):
    """Return the functions that, over any number of ``change`` events, set themselves off again."""
    follow = {
        number: {
            other
            for other, function in functions.items()
            for component, event in function.targets
            if event == "change"
            and component in {output._id for output in functions[number].outputs}
        }
        for number in functions
    }
    reached = {number: set(followers) for number, followers in follow.items()}
    for middle in functions:
        for number in functions:
            if middle in reached[number]:
                reached[number] |= reached[middle]
    return {functions[number].name for number in functions if number in reached[number]}


def test_no_listener_sets_itself_off(tmp_path):
    # gradio sends `change` for some values that did not change, more often on a busy computer: a circle of
    # such events never ends.
    page = build_app(Services.for_workspace(Settings(home_dir=tmp_path)))
    assert changed_by_itself(page.fns) == set()
