"""Evaluate tab, in Take it home: upload to the Hugging Face Hub, once a person has read what goes where."""

from __future__ import annotations

from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.export.hub import check_repository, hub_address
from workbench.export.request import HUB_KINDS, ExportRequest
from workbench.exports import check_export, export_bytes, hub_request, start_export
from workbench.runs.strength import kept_strength
from workbench.services import Services
from workbench.settings import hub_token
from workbench.ui.export_views import GGUF_LABELS, KIND_LABELS, SAVED_MODEL, upload_question
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.run_choices import run_to_ask


def build_hub_upload(
    services: Services, run_choice: gr.Dropdown, model_choice: gr.Dropdown
) -> tuple[gr.Button, Any]:
    """Lay it out and wire it; returns the button to begin with, and the event that an upload has begun."""
    with gr.Accordion("Upload to the Hugging Face Hub", open=False, elem_id="hub"):
        gr.Markdown(
            "Makes it, compares it with what was trained, and uploads it with its model card. Nothing is sent before "
            "you have read what goes where and pressed *Upload it*.",
            elem_classes="wb-help",
        )
        with gr.Row(equal_height=True):
            repository = gr.Textbox(
                label="Repository",
                placeholder="your-name/my-model",
                info="Your account or organization on the Hub, and a name; it is made if it is new.",
                max_lines=1,
                max_length=200,
                elem_id="hub-repository",
            )
            token = gr.Textbox(
                label="Access token",
                info="With the right to write. It goes to the Hub and is never written down; empty: HF_TOKEN.",
                type="password",
                max_lines=1,
                elem_id="hub-token",
            )
        with gr.Row(equal_height=True):
            kind = gr.Radio(
                [(KIND_LABELS[kind], kind) for kind in HUB_KINDS],
                value="adapter",
                label="What to upload",
                elem_id="hub-kind",
            )
            visibility = gr.Radio(
                [("Private", "private"), ("Public", "public")],
                value="private",
                label="Who can see it",
                elem_id="hub-visibility",
            )
        gguf_type = gr.Dropdown(
            [(words, name) for name, words in GGUF_LABELS.items()],
            value="F16",
            label="Weights in the GGUF file",
            visible=False,
            elem_id="hub-type",
        )
        ask = gr.Button("Upload …", elem_id="hub-ask")
        question = gr.Markdown(visible=False, elem_id="hub-question")
        with gr.Row(visible=False) as answers:
            really = gr.Button("Upload it", variant="primary", elem_id="hub-really")
            leave = gr.Button("Do not upload", elem_id="hub-leave")
    # What the question says is what is uploaded, whatever is chosen since.
    asked = gr.State(None)

    @user_errors
    def prepare(
        run_id: str | None, model: str, chosen: Any, how: Any, name: str, seen: str, typed: str
    ) -> list[Any]:
        run = run_to_ask(services, run_id)
        step = None if model == SAVED_MODEL else int(model)
        name = name.strip()
        check_repository(name, typed.strip() or hub_token())
        request = hub_request(
            services,
            chosen,
            name,
            private=seen != "public",
            checkpoint=step,
            gguf_type=how,
            strength=kept_strength(run),
        )
        check_export(services, run, request)
        size_bytes = export_bytes(services, run, request)
        words = upload_question(run, request, hub_address(name), size_bytes)
        return [(run.id, request), gr.Markdown(words, visible=True), gr.Row(visible=True)]

    @user_errors
    def upload(prepared: tuple[str, ExportRequest] | None, typed: str) -> list[Any]:
        if prepared is None:
            raise WorkbenchError("It was begun already.", "Press Upload … for another one.")
        run_id, request = prepared
        start_export(services, services.runs.get(run_id), request, typed.strip())
        return hide()

    def hide() -> list[Any]:
        return [None, gr.Markdown(visible=False), gr.Row(visible=False)]

    shown = [asked, question, answers]
    kind.change(lambda chosen: gr.Dropdown(visible=chosen == "gguf"), kind, gguf_type, **FOLLOW)
    inputs = [run_choice, model_choice, kind, gguf_type, repository, visibility, token]
    ask.click(prepare, inputs, shown, **PRIVATE)
    leave.click(hide, None, shown, **QUIET)
    return ask, really.click(upload, [asked, token], shown, concurrency_limit=1, **PRIVATE)
