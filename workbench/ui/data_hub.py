"""Data tab: a dataset by name from the Hugging Face Hub, which then goes the way of any other file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.data.adding import add_in_child
from workbench.data.hub import download_file, list_data_files
from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.settings import ensure_dir
from workbench.ui.data_check import dataset_choices
from workbench.ui.data_views import listing_words
from workbench.ui.guard import PRIVATE, user_errors
from workbench.ui.views import plain


def build_hub_view(services: Services, dataset: gr.Dropdown) -> None:
    """Lay it out and wire it; what is added becomes the chosen dataset."""
    with gr.Accordion("From the Hugging Face Hub", open=False, elem_id="data-hub"):
        name = gr.Textbox(
            label="Name of the dataset",
            placeholder="tatsu-lab/alpaca",
            info="As in its address: huggingface.co/datasets/owner/name",
            max_lines=1,
            max_length=200,
            elem_id="data-hub-name",
        )
        find = gr.Button("Show its files", size="sm", elem_id="data-hub-find")
        note = gr.Markdown(elem_classes="wb-help", elem_id="data-hub-note")
        file = gr.Dropdown([], label="File", visible=False, elem_id="data-hub-file")
        add = gr.Button(
            "Download and check it",
            variant="primary",
            size="sm",
            visible=False,
            elem_id="data-hub-add",
        )

    @user_errors
    def show_files(repository: str) -> Iterator[list[Any]]:
        yield ["Asking the Hub …", gr.Dropdown(visible=False), gr.Button(visible=False)]
        try:
            listing = list_data_files(repository)
        except WorkbenchError:
            yield ["", gr.skip(), gr.skip()]
            raise
        choices = [(entry.label, entry.path) for entry in listing.files]
        yield [
            listing_words(listing),
            gr.Dropdown(choices, value=choices[0][1], visible=True),
            gr.Button(visible=True),
        ]

    @user_errors
    def fetch(repository: str, path: str) -> Iterator[list[Any]]:
        yield [f"Downloading and checking {plain(path)} …", gr.skip()]
        folder = ensure_dir(services.settings.temporary_dir)
        try:
            listing = list_data_files(repository)
            with tempfile.TemporaryDirectory(dir=folder) as directory:
                limit_bytes = services.settings.upload_limit_bytes
                fetched_path = download_file(
                    listing, path, Path(directory), limit_bytes, lambda progress: None
                )
                shown = f"{listing.repository.rsplit('/', 1)[-1]} {listing.file(path).name}"
                info = add_in_child(services.settings, fetched_path, shown)
        except WorkbenchError:
            yield ["", gr.skip()]
            raise
        yield ["It is here and chosen now.", gr.Dropdown(dataset_choices(services), value=info.id)]

    gr.on([find.click, name.submit], show_files, name, [note, file, add], **PRIVATE)
    add.click(fetch, [name, file], [note, dataset], concurrency_limit=2, **PRIVATE)
