"""The one place where a problem becomes a notice on the page, and the options every listener has."""

from __future__ import annotations

import functools
import html
import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError

# Every listener is an HTTP endpoint; none of ours is meant for others. What takes long says so in
# words of its own instead of gradio's spinner.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# Reading files: quick, so for all visitors at once.
QUIET: dict[str, Any] = {**PRIVATE, "concurrency_limit": None}
# What shows a choice must show the last one made. By default gradio drops an event that comes while the
# same handler still works for an earlier one; and "always_last" lets two through when they come at once,
# so a handler takes them one at a time, in their order, whichever listener they came by.
FOLLOW: dict[str, Any] = {**PRIVATE, "concurrency_limit": 1, "trigger_mode": "always_last"}
NOTICE_SECONDS = 20


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
