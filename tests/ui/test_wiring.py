"""The listeners of the page, before any browser opens it."""

from __future__ import annotations

import gradio as gr
import pytest

from workbench.config import build_config
from workbench.services import Services
from workbench.settings import Settings
from workbench.ui.app import build_app
from workbench.ui.form import automatic_fields, automatic_update, build_field, field_names


@pytest.fixture
def page(tmp_path):
    return build_app(Services.for_workspace(Settings(home_dir=tmp_path)))


def changed_by_itself(functions):
    """Return the functions that, over any number of ``change`` events, set themselves off again."""
    follow = {
        number: {
            other
            for other, function in functions.items()
            for component, event in function.targets
            if event == "change"
            and component
            in {output._id for output in functions[number].outputs if not is_text(output)}
        }
        for number in functions
    }
    reached = {number: set(followers) for number, followers in follow.items()}
    for middle in functions:
        for number in functions:
            if middle in reached[number]:
                reached[number] |= reached[middle]
    return {functions[number].name for number in functions if number in reached[number]}


def is_text(component):
    """Say whether it is a Textbox, which compares texts before it says that one changed."""
    return isinstance(component, gr.Textbox)


def test_no_listener_sets_itself_off(page):
    # gradio sends `change` for some values that did not change, more often on a busy computer: a circle of
    # such events never ends.
    assert changed_by_itself(page.fns) == set()


def test_the_data_tab_lists_its_datasets_anew_when_it_is_opened(page):
    listed = [
        function
        for function in page.fns.values()
        for tab, event in function.targets
        if event == "select" and getattr(page.blocks.get(tab), "id", None) == "data"
        if "data-choice" in [output.elem_id for output in function.outputs]
    ]
    assert len(listed) == 1


def test_the_plan_writes_no_text_into_text_fields():
    with gr.Blocks():
        texts = [n for n in automatic_fields(field_names()) if is_text(build_field(n))]
    assert texts
    for name in texts:
        assert "value" not in automatic_update(name, build_config({}))


def test_what_follows_a_choice_is_answered_in_order(page):
    # Two answers under way at once may come in any order; then the page shows an older choice.
    following = [
        function for function in page.fns.values() if function.trigger_mode == "always_last"
    ]
    assert len(following) > 10
    assert {function.concurrency_limit for function in following} <= {1, "default"}


def test_no_event_makes_the_browser_look_for_every_component(page):
    # gradio tells all that ever were to show progress, at each event; with one of them that is quick.
    told = {one for function in page.fns.values() for one in function.show_progress_on}
    assert len(told) == 1


def test_a_look_at_the_run_each_second_brings_little_and_nothing_hidden(page):
    (look,) = [
        function
        for function in page.fns.values()
        if function.name == "look" and function.inputs[0].elem_id == "train-run"
    ]
    assert len(look.outputs) <= 5
    for output in look.outputs:
        assert output.visible is not False, output
        assert not isinstance(output, gr.State)


@pytest.mark.parametrize("name", ["describe_model", "update_plan", "count_tokens", "promise_plan"])
def test_what_depends_on_the_model_follows_when_more_of_it_is_known(page, name):
    # after "Check size and licence", a download, or a look-up that Start made
    (press,) = [f for f in page.fns.values() if f.name == "check_model"]
    known = press.outputs[-1]
    assert isinstance(known, gr.State)
    following = [f.name for f in page.fns.values() if (known._id, "change") in f.targets]
    assert name in following
    (again,) = [f for f in page.fns.values() if f.outputs == [known]]
    assert again.trigger_after is not None
