"""Evaluate tab, in Take it home: delete what an export made, once a person has read which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.export.history import delete_export, find_export
from workbench.services import Services
from workbench.ui.export_views import delete_export_question
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors


@dataclass(frozen=True)
class ExportDeleting:
    """What shows what can be deleted.

    Attributes:
        row: Visible while there is something.
        stored: The exports, by their ids.
        deleted: The event that one was deleted.
    """

    row: gr.Row
    stored: gr.Dropdown
    deleted: Any


def build_export_deleting(services: Services, run_choice: gr.Dropdown) -> ExportDeleting:
    """Lay it out and wire it."""
    with gr.Row(equal_height=True, visible=False) as row:
        stored = gr.Dropdown(label="Free the disk again", scale=3, elem_id="export-stored")
        ask = gr.Button("Delete …", size="sm", scale=0, min_width=110, elem_id="export-delete")
    question = gr.Markdown(visible=False, elem_id="export-question")
    with gr.Row(visible=False) as answers:
        really = gr.Button("Delete it", variant="stop", size="sm", elem_id="export-really")
        keep = gr.Button("Keep it", size="sm", elem_id="export-keep")
    # What the question names is what is deleted, whatever is chosen since.
    asked = gr.State(None)

    @user_errors
    def prepare(run_id: str, export_id: str | None) -> list[Any]:
        if not export_id:
            raise WorkbenchError("No export is chosen.", "Choose one in the list.")
        export = find_export(services.runs.get(run_id), export_id)
        words = delete_export_question(export)
        return [(run_id, export_id), gr.Markdown(words, visible=True), gr.Row(visible=True)]

    @user_errors
    def delete(named: tuple[str, str] | None) -> list[Any]:
        if named is None:
            raise WorkbenchError("It was deleted already.", "Press Delete … for another one.")
        run_id, export_id = named
        delete_export(find_export(services.runs.get(run_id), export_id))
        return hide()

    def hide() -> list[Any]:
        return [None, gr.Markdown(visible=False), gr.Row(visible=False)]

    shown = [asked, question, answers]
    ask.click(prepare, [run_choice, stored], shown, **PRIVATE)
    keep.click(hide, None, shown, **QUIET)
    deleted = really.click(delete, asked, shown, **PRIVATE)
    run_choice.change(hide, None, shown, **FOLLOW)
    return ExportDeleting(row, stored, deleted)
