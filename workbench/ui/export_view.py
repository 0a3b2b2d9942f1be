"""Evaluate tab, below: take home what a run learned, as files on this computer."""

from __future__ import annotations

import shutil
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.export.history import (
    RunExport,
    exports_of,
    find_export,
    stop_export,
)
from workbench.export.request import KINDS, ExportRequest
from workbench.exports import check_export, export_bytes, start_export, workspace_request
from workbench.runs.store import Run
from workbench.runs.strength import kept_strength, strength_words
from workbench.services import Services
from workbench.ui.export_delete_view import build_export_deleting
from workbench.ui.export_hub_view import build_hub_upload
from workbench.ui.export_views import (
    GGUF_LABELS,
    KIND_HELP,
    KIND_LABELS,
    SAVED_MODEL,
    export_to_follow,
    exports_html,
    progress_html,
    size_words,
    stored_update,
)
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.run_choices import run_to_ask
from workbench.ui.views import plain

POLL_SECONDS = 1.0
NO_RUN = "There is no tuned model yet. Train one, then take it home from here."
RUN_GONE = "This run was deleted meanwhile. Choose another one above."


def build_export_view(
    services: Services,
    page: gr.Blocks,
    tab: gr.Tab,
    run_choice: gr.Dropdown,
    model_choice: gr.Dropdown,
) -> None:
    """Lay it out and wire it.

    Args:
        services: Where the runs are.
        page: The page.
        tab: The tab it is on.
        run_choice: The run, by its id.
        model_choice: ``saved``, or the step of a checkpoint.
    """
    gr.Markdown(
        "## Take it home\nOf the tuned model chosen above. It is made in a process of its own: you may close the "
        "page meanwhile. Every model is read again and compared with what was trained before it counts.",
        elem_id="export-title",
    )
    kind = gr.Radio(
        [(KIND_LABELS[kind], kind) for kind in KINDS],
        value="adapter",
        label="What to make",
        elem_id="export-kind",
    )
    gguf_type = gr.Dropdown(
        [(words, name) for name, words in GGUF_LABELS.items()],
        value="F16",
        label="Weights in the GGUF file",
        info="Fewer bits make it smaller and less exact, small models most of all.",
        visible=False,
        elem_id="export-type",
    )
    with_data = gr.Checkbox(
        label="With the conversations it was trained on",
        info="Without them the bundle has their names and hashes only.",
        visible=False,
        elem_id="export-data",
    )
    note = gr.Markdown(elem_id="export-note")
    with gr.Row():
        make = gr.Button("Make it", variant="primary", interactive=False, elem_id="export-make")
        cancel = gr.Button("Cancel", visible=False, elem_id="export-cancel")
    upload, uploading = build_hub_upload(services, run_choice, model_choice)
    status = gr.HTML(visible=False, elem_id="export-status")
    made = gr.HTML(elem_id="export-made")
    deleting = build_export_deleting(services, run_choice)
    # Cancel ends what is shown, which is in the browser.
    followed = gr.Textbox(visible="hidden", elem_id="export-followed")
    timer = gr.Timer(POLL_SECONDS, active=False)

    @user_errors
    def show_exports(
        run_id: str | None, model: str, chosen: Any, how: Any, data: bool, stored: str | None
    ) -> list[Any]:
        """Return what everything shows now."""
        if not run_id:
            return _nothing(NO_RUN)
        try:
            run = services.runs.get(run_id)
        except WorkbenchError:
            return _nothing(RUN_GONE)
        exports = made_here(services, run)
        shown = export_to_follow(exports)
        is_running = shown is not None and shown.is_running
        request = _request(services, run, model, chosen, how, data)
        words, can_work = (
            (KIND_HELP[request.kind], False) if is_running else _note(services, run, request)
        )
        banner, stored_now = progress_html(shown), stored_update(exports, stored)
        return [
            words,
            gr.Dropdown(visible=chosen in ("gguf", "ollama")),
            gr.Checkbox(visible=chosen == "bundle"),
            gr.Button(interactive=can_work),
            gr.Button(visible=is_running),
            gr.HTML(banner, visible=bool(banner)),
            exports_html(exports, services.settings.exports_dir),
            gr.Row(visible=bool(stored_now["choices"])),
            gr.Dropdown(**stored_now),
            gr.Timer(active=is_running),
            gr.Button(interactive=not is_running),
            shown.id if shown else "",
        ]

    @user_errors
    def begin(run_id: str | None, model: str, chosen: Any, how: Any, data: bool) -> None:
        run = run_to_ask(services, run_id)
        start_export(services, run, _request(services, run, model, chosen, how, data))

    @user_errors
    def end(run_id: str, export_id: str) -> None:
        export = find_export(services.runs.get(run_id), export_id)
        if export.is_running:
            stop_export(export)

    inputs = [run_choice, model_choice, kind, gguf_type, with_data]
    shown_by = [*inputs, deleting.stored]
    outputs = [
        note, gguf_type, with_data, make, cancel, status, made, deleting.row, deleting.stored, timer,
        upload, followed,
    ]  # fmt: skip
    started = make.click(begin, inputs, None, concurrency_limit=1, **PRIVATE)
    cancelled = cancel.click(end, [run_choice, followed], None, **QUIET)
    following = [page.load, tab.select, timer.tick, run_choice.change, model_choice.change]
    following += [kind.change, gguf_type.input, with_data.input]
    gr.on(following, show_exports, shown_by, outputs, **FOLLOW)
    for event in (started, uploading, cancelled, deleting.deleted):
        event.then(show_exports, shown_by, outputs, **FOLLOW)


def made_here(services: Services, run: Run) -> list[RunExport]:
    """Return a run's exports that lie in the workspace, the newest first."""
    folder = services.settings.exports_dir
    return [export for export in exports_of(run) if export.request.out_path.is_relative_to(folder)]


def _nothing(words: str) -> list[Any]:
    """Return what is shown of no run, in the order of the outputs."""
    return [
        words,
        *[gr.skip()] * 2,
        gr.Button(interactive=False),
        gr.Button(visible=False),
        gr.HTML(visible=False),
        "",
        gr.Row(visible=False),
        gr.Dropdown([], value=None),
        gr.Timer(active=False),
        gr.Button(interactive=False),
        "",
    ]


def _request(
    services: Services, run: Run, model: str, kind: Any, gguf_type: Any, with_data: bool
) -> ExportRequest:
    checkpoint = None if model == SAVED_MODEL else int(model)
    return workspace_request(
        services,
        run,
        kind,
        checkpoint=checkpoint,
        gguf_type=gguf_type,
        with_data=with_data,
        strength=kept_strength(run),
    )


def _note(services: Services, run: Run, request: ExportRequest) -> tuple[str, bool]:
    """Say what a kind of export is for and how large it will be, or why it cannot be; and whether it can."""
    try:
        check_export(services, run, request)
    except WorkbenchError as error:
        return plain(str(error)), False
    size_bytes = export_bytes(services, run, request)
    free_bytes = shutil.disk_usage(request.out_path.parent).free
    words = f"{size_words(request.kind, size_bytes, free_bytes)} {strength_words(request.strength)}"
    return plain(words.rstrip()), True
