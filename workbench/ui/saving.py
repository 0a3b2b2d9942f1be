"""A button that saves a file which is only made when it is clicked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from workbench.ui.guard import QUIET, user_errors

# Not gr.DownloadButton: it offers a file that is there already, and one that is hidden still shows (gradio 6.31).
FETCHING = """
(file) => Object.assign(document.createElement('a'), {href: file.url, download: file.orig_name}).click()
"""


def save_on_click(
    button: gr.Button, make: Callable[..., tuple[str, str]], inputs: Any, **options: Any
) -> None:
    """Let the browser save what ``make`` returns.

    Args:
        button: What is clicked.
        make: Takes the values of ``inputs``; returns the name and the text of the file.
        inputs: Components.
        **options: Of the listener, besides the usual ones.
    """
    saved = gr.File(visible=False)

    @user_errors
    def save(*values: Any, **settings: Any) -> str:
        name, text = make(*values, **settings)
        path: str = save_bytes_to_cache(text.encode(), name, saved.GRADIO_CACHE)
        return path

    button.click(save, inputs, saved, **QUIET | options).success(None, saved, js=FETCHING)
