"""Data tab: pick a sample or drop a file, and know what the model will learn from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.data.adding import add_in_child
from workbench.data.store import SAMPLES
from workbench.deleting import delete_dataset
from workbench.services import Services
from workbench.ui.data_check import build_check_view, dataset_choices
from workbench.ui.data_hub import build_hub_view
from workbench.ui.data_mix import build_mix_view
from workbench.ui.data_rows import RowsView, build_rows_view
from workbench.ui.data_views import checking_html, report_html
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors

FIRST_SAMPLE = next(iter(SAMPLES))
STATE_KEY = "only-an-id"  # the browser keeps which dataset was chosen; that is no secret

FORMAT_HELP = """\
**JSON, JSON lines, CSV, TSV, Excel or Parquet**, also packed as `.gz`. The content decides, not the name.
The simplest is a table with a column of questions and a column of answers, or a JSON list (the Alpaca form):

```json
[
  {"instruction": "Translate to French", "input": "Good morning", "output": "Bonjour"},
  {"instruction": "Who are you?", "output": "I am Juniper, made by Lantern Labs."}
]
```

- `instruction` (or `question`, `prompt` …): the question or task. **Needed.**
- `output` (or `answer`, `response` …): the answer the model should learn. **Needed.**
- `input`: text the task is about; it follows the instruction. Optional.
- `system`: how the assistant should behave. Optional.
- `history`: earlier turns, as `[["question", "answer"], …]`. Optional.

Whole conversations work, too (`messages` as OpenAI writes them, `conversations` as in ShareGPT), and tables of
texts and labels. Where the columns have other names, you are asked which is which.

From about 50 examples on a model picks up a style or a name; a task such as sorting reviews wants a few hundred.
"""


@dataclass(frozen=True)
class DataTab:
    """What other tabs need.

    Attributes:
        components: What ``data_mix.read_choice`` reads.
        rows: The rows of the dataset, and which one is shown.
        model_view: Where "what the model sees" belongs, which needs to know the model.
    """

    components: list[Any]
    rows: RowsView
    model_view: gr.Column


def build_data_tab(services: Services, page: gr.Blocks, tab: gr.Tab) -> DataTab:
    """Lay the tab out and wire it."""
    remembered = gr.BrowserState(FIRST_SAMPLE, storage_key="workbench-dataset", secret=STATE_KEY)
    limit_mb = services.settings.upload_limit_bytes // 2**20
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            dataset = gr.Dropdown(
                dataset_choices(services),
                value=FIRST_SAMPLE,
                label="Dataset",
                info="A sample to try things out, or a file you added.",
                elem_id="data-choice",
            )
            upload = gr.File(
                label=f"Add your own: drop a file here, up to {limit_mb:,} MB",
                height=150,
                elem_id="data-upload",
            )
            build_hub_view(services, dataset)
            with gr.Accordion("What can the file look like?", open=False):
                gr.Markdown(FORMAT_HELP)
            mix = build_mix_view(services, page, tab, dataset)
            with gr.Accordion("Rename, download, delete", open=False, elem_id="data-manage"):
                name = gr.Textbox(label="Name", max_lines=1, max_length=120, elem_id="data-name")
                rename = gr.Button("Rename", size="sm")
                download = gr.DownloadButton("Download", size="sm", elem_id="data-download")
                delete = gr.Button("Delete …", size="sm", elem_id="data-delete")
                sure = gr.Button(
                    "Yes, delete it for good",
                    size="sm",
                    variant="stop",
                    visible=False,
                    elem_id="data-delete-sure",
                )
        with gr.Column(scale=5, min_width=420):
            check = build_check_view(services, page, dataset)
            rows = build_rows_view(services, page, dataset)
            model_view = gr.Column()

    def renew(dataset_id: str) -> Any:
        """List what is here now, good answers of the Playground too.

        A choice that still is stays as it is by now: another one may have been made meanwhile.
        """
        choices = dataset_choices(services)
        if dataset_id in [identity for _, identity in choices]:
            return gr.update(choices=choices)
        return gr.update(choices=choices, value=FIRST_SAMPLE)

    def reopen(dataset_id: str) -> Any:
        """Choose what was chosen when this browser was here last, if it still is."""
        return {"value": dataset_id, **renew(dataset_id)}

    @user_errors
    def add(path: str | None, dataset_id: str) -> Iterator[Any]:
        if path is None:
            return
        yield checking_html(Path(path).name), gr.skip()
        try:
            info = add_in_child(services.settings, Path(path), Path(path).name)
        finally:
            yield report_html(services.datasets.report(dataset_id)), gr.skip()
        choice = gr.Dropdown(dataset_choices(services), value=info.id)
        yield report_html(services.datasets.report(info.id)), choice

    @user_errors
    def describe(dataset_id: str) -> list[Any]:
        info, is_sample = services.datasets.info(dataset_id), dataset_id in SAMPLES
        path = services.datasets.download_path(dataset_id)
        return [
            gr.Textbox(info.name, interactive=not is_sample),
            gr.Button(interactive=not is_sample),
            gr.DownloadButton(value=path and str(path), interactive=path is not None),
            gr.Button(interactive=not is_sample),
            gr.Button(visible=False),
        ]

    @user_errors
    def give_name(dataset_id: str, new_name: str) -> list[Any]:
        info = services.datasets.rename(dataset_id, new_name)
        report = services.datasets.report(dataset_id)
        return [gr.Dropdown(dataset_choices(services), value=info.id), report_html(report)]

    def ask_before_deleting(dataset_id: str) -> Any:
        """Say what goes with a dataset."""
        count = sum(dataset_id in run.data.dataset_ids for run in services.runs.all())
        runs = "1 run uses it and" if count == 1 else f"{count} runs use it and"
        lost = f": {runs} could not be evaluated on it or begun again" if count else ""
        return gr.Button(f"Yes, delete it{lost}", visible=True)

    @user_errors
    def remove(dataset_id: str) -> Any:
        delete_dataset(services, dataset_id)
        gr.Info("The dataset is deleted. Models that learned from it stay.")
        return gr.Dropdown(dataset_choices(services), value=FIRST_SAMPLE)

    # An upload comes after what the page begins with.
    in_turn: dict[str, Any] = {**PRIVATE, "concurrency_id": "dataset"}
    page.load(reopen, remembered, dataset, **in_turn)
    tab.select(renew, dataset, dataset, **in_turn)
    upload.upload(add, [upload, dataset], [check.report, dataset], **in_turn)
    # Empty the drop zone either way: a refused file must not look accepted, and the next one fits.
    upload.upload(lambda: None, None, upload, **PRIVATE)
    dataset.change(lambda dataset_id: dataset_id, dataset, remembered, **FOLLOW)
    described = [name, rename, download, delete, sure]
    gr.on([page.load, dataset.change], describe, dataset, described, **FOLLOW)
    rename.click(give_name, [dataset, name], [dataset, check.report], **PRIVATE)
    delete.click(ask_before_deleting, dataset, sure, **QUIET)
    sure.click(remove, dataset, dataset, **PRIVATE)
    return DataTab(mix, rows, model_view)
