"""The one place where a problem becomes a notice on the page, and the options every listener has."""

from __future__ import annotations

import functools
import html
import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError

# Every listener is an HTTP endpoint; none of ours is meant for others. What takes long says so in
# words of its own instead of gradio's spinner.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# Reading files: quick, so for all visitors at once.
QUIET: dict[str, Any] = {**PRIVATE, "concurrency_limit": None}
# What shows a choice must show the last one made: by default gradio drops an event that comes while the
# same handler still works for an earlier one, such as the page's own loading.
FOLLOW: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
NOTICE_SECONDS = 20


def follow(
    triggers: Sequence[Any],
    handler: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    after: Sequence[Any] = (),
) -> None:
    """Show what the person's choices lead to, and never what older ones led to.

    On a busy computer two answers of one handler can be under way, and that to the older question can come last.
    So what was asked is kept beside the answer; when it is not what the components say now, it is asked again.

    Args:
        triggers: The events that ask.
        handler: A function or a generator of the components' values; returns one value for each output.
        inputs: The components that decide.
        outputs: The components that show.
        after: Other listeners whose end asks, too.
    """
    asked = gr.State("")

    def answer(*values: Any) -> Iterator[list[Any]]:
        question = repr(values)
        found = handler(*values)
        for shown in found if inspect.isgenerator(found) else [found]:
            yield [*shown, question]

    def answer_again(question: str, *values: Any) -> Iterator[list[Any]]:
        if question != repr(values):
            yield from answer(*values)

    shown = [*outputs, asked]
    listeners = [gr.on(list(triggers), answer, list(inputs), shown, **FOLLOW)]
    listeners += [ended.then(answer, list(inputs), shown, **FOLLOW) for ended in after]
    for listener in listeners:
        listener.success(answer_again, [asked, *inputs], shown, **FOLLOW)


def user_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Show what a handler raises as a sentence; works for functions and generators."""
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generate(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _shown_on_page():
                yield from handler(*args, **kwargs)

        return generate

    @functools.wraps(handler)
    def call(*args: Any, **kwargs: Any) -> Any:
        with _shown_on_page():
            return handler(*args, **kwargs)

    return call


@contextmanager
def _shown_on_page() -> Iterator[None]:
    try:
        yield
    except WorkbenchError as error:
        # Notices are rendered as HTML, and the message may quote a file.
        text = html.escape(f"{error.message} {error.hint}".strip()).replace("\n", "<br>")
        raise gr.Error(
            text, duration=NOTICE_SECONDS, title="That did not work", print_exception=False
        ) from error
    except gr.Error:
        raise
    except Exception as error:
        traceback.print_exc()
        raise gr.Error(
            "This is a mistake in the workbench, not yours. The terminal it runs in has the details.",
            duration=NOTICE_SECONDS,
            title="Something went wrong",
            print_exception=False,
        ) from error
