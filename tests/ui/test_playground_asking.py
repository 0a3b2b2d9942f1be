"""The playground's handlers, called as the page calls them, without a browser or a model."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.helpers import special_args

from tests.made_runs import make_run
from workbench.chat import Reply
from workbench.errors import WorkbenchError
from workbench.runs.chats import find_chats
from workbench.runs.checkpoints import mark_complete
from workbench.ui.playground_tab import GENERAL, build_playground_tab
from workbench.ui.playground_talk import STOPPED, STOPPED_EARLY, WAITING, Talk

SETTINGS = {
    "system": "", "temperature": 0, "max_tokens": 20, "strength": 1, "top_p": 0.9, "top_k": 0,
    "repetition_penalty": 1, "seed": "",
}  # fmt: skip
NOTE, CHAT = 4, 6  # places among what a handler returns


class FakeChat:
    """Answers with the model's name, letter by letter, until it is stopped."""

    def __init__(self):
        self.run_id, self.users, self.why_gone = "", 0, ""
        self.loading_stopped = threading.Event()
        self.loads_for_ever = False

    @contextmanager
    def using(self, run, stop):
        self.users += 1
        if self.loads_for_ever:
            assert self.loading_stopped.wait(5)
            raise WorkbenchError("The models were not loaded.")
        yield
        self.users -= 1

    def replies(self, model, messages, stop, **sampling):
        for end in range(len(model) + 1):
            if stop.is_set:
                yield Reply(model[: max(end - 1, 0)], "", "stopped")
                return
            yield Reply(model[:end])
            time.sleep(0.05)
        yield Reply(model, "", "stop")

    def stop_loading(self):
        self.loading_stopped.set()

    def close(self):
        pass


@pytest.fixture
def page(services):
    """The functions of a page by name, and the services behind it."""
    services = replace(services, chat=FakeChat())
    run = make_run(services.runs)
    with gr.Blocks() as blocks, gr.Tab() as tab:
        build_playground_tab(services, blocks, tab)
    ours = build_playground_tab.__qualname__
    functions = [function.fn for function in blocks.fns.values() if function.fn]
    return {fn.__name__: fn for fn in functions if fn.__qualname__.startswith(ours)}, services, run


def asked(page, visit="a", text="one", said=None, **others):
    functions, _, run = page
    values = {"run_id": run.id, "said": said or Talk(), "left": "tuned", "right": "base"}
    values |= {"last": (run.id, "tuned", "base")} | others
    request = SimpleNamespace(session_hash=visit)
    return functions["ask"](
        text, request, **values, known=(GENERAL,), kept=None, **SETTINGS
    ), request


def test_the_page_tells_the_handlers_who_visits(page):
    functions, _, _ = page
    request = gr.Request(session_hash="a")
    for name, inputs in (("ask", ["one"]), ("begin", [None] * 4), ("empty", []), ("stop_here", [])):
        given, *_ = special_args(functions[name], list(inputs), request)
        assert given == [*inputs, request], name


def test_a_whole_conversation_is_kept(page):
    answering, _ = asked(page)
    *_, last = answering
    assert last[CHAT].answers == ("tuned", "base")
    assert find_chats(page[2])[0] == [last[CHAT]]


def test_a_question_that_comes_before_the_list_of_runs_is_answered(page):
    page[2].model_dir.mkdir()
    answering, request = asked(page, run_id=None, last=None)
    next(answering)
    now = (page[2].id, "tuned", "base")
    assert page[0]["begin"](*now, None, request) == [gr.skip()] * 9  # the list comes now
    *_, last = answering
    assert last[CHAT].answers == ("tuned", "base")
    assert last[CHAT].run_id == page[2].id


def test_what_was_written_before_stop_is_kept(page):
    functions, _, run = page
    answering, request = asked(page)
    for step in answering:
        if step[0].left[-1]["content"]:
            functions["stop_here"](request)
    left, right = step[CHAT].answers
    assert "tuned".startswith(left)
    assert left != "tuned"
    assert "base".startswith(right)
    assert step[NOTE] == STOPPED
    assert find_chats(run)[0] == [step[CHAT]]


def test_stop_is_of_one_visit_alone(page):
    functions, _, _ = page
    (first, first_request), (second, _) = asked(page, "a"), asked(page, "b")
    next(first), next(second)
    functions["stop_here"](first_request)
    *_, first_last = first
    *_, second_last = second
    assert first_last[NOTE] == "Stopped."
    assert second_last[CHAT].answers == ("tuned", "base")


def test_stop_ends_the_loading_and_the_page_is_free(page):
    functions, services, run = page
    services.chat.loads_for_ever = True
    answering, request = asked(page)
    assert "Loading the models" in next(answering)[NOTE]
    functions["stop_here"](request)
    *_, last = answering
    assert last[NOTE] == "Stopped."
    for side in last[1:3]:  # a message on the page, to press Retry at, and none of the conversation
        assert [message["content"] for message in side] == ["one", STOPPED_EARLY]
    assert last[0].left[-1]["content"] == ""
    assert find_chats(run)[0] == []


def test_stop_after_an_answer_that_failed_or_was_left_ends_nothing_of_others(page):
    functions, services, _ = page
    services.chat.replies = lambda *_, **__: iter([1 / 0])
    failed, request = asked(page)
    with pytest.raises(gr.Error):
        list(failed)
    left, _ = asked(page)
    next(left)
    left.close()
    functions["stop_here"](request)
    assert not services.chat.loading_stopped.is_set()


def test_another_page_is_told_at_once_that_it_waits(page):
    _, services, _ = page
    services.chat.users = 1
    assert next(asked(page)[0])[NOTE] == WAITING


def test_what_was_cleared_shows_nothing_more(page):
    functions, _, run = page
    answering, request = asked(page)
    next(answering), next(answering)
    functions["empty"](request)
    steps = list(answering)
    assert not any(step[CHAT] for step in steps if step[CHAT] and hasattr(step[CHAT], "answers"))
    assert find_chats(run)[0] == []
    assert steps[-1][1:3] == [[], []]  # what was on its way when it was cleared goes, too


def test_who_is_asked_just_after_the_models_were_changed_has_a_conversation_of_their_own(page):
    functions, _, run = page
    said = Talk().with_question("before", {"left": "tuned", "right": "base"})
    request = SimpleNamespace(session_hash="a")
    values = {"run_id": run.id, "said": said, "left": "tuned", "right": "base", "last": None}
    *_, end = functions["ask"]("one", request, **values, known=(GENERAL,), kept=None, **SETTINGS)
    assert end[0].question(0) == "one"
    assert end[-1] == (run.id, "tuned", "base")  # so nothing begins anew when the page hears of it
    assert functions["begin"](*end[-1], end[-1], request) == [gr.skip()] * 9


def keep_checkpoint(run, step):
    directory = run.checkpoints_dir / f"checkpoint-{step}"
    directory.mkdir(parents=True)
    mark_complete(directory)


def test_a_run_without_a_model_is_asked_as_its_checkpoint_also_before_it_was_described(page):
    _, _, run = page
    keep_checkpoint(run, 8)
    answering, _ = asked(page)  # the page still says "tuned"
    *_, last = answering
    assert last[CHAT].models == ("step-8", "base")
    assert last[-1] == (run.id, "step-8", "base")


def test_a_run_that_went_on_and_saved_its_model_is_described_anew(page):
    functions, _, run = page
    keep_checkpoint(run, 8)
    unfinished = functions["describe"](run.id, None)
    assert (unfinished[1].value, unfinished[-1]) == ("step-8", (run.id, "step-8"))
    assert functions["describe"](run.id, unfinished[-1]) == [gr.skip()] * len(unfinished)
    run.model_dir.mkdir()
    finished = functions["describe"](run.id, unfinished[-1])
    assert ("Tuned model", "tuned") in [tuple(choice) for choice in finished[1].choices]
    assert finished[1].value == "tuned"
