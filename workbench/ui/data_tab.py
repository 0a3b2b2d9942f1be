"""Data tab: pick a sample or drop a file, and see what was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from workbench.data.store import SAMPLES
from workbench.services import Services
from workbench.ui.guard import PRIVATE, QUIET, user_errors
from workbench.ui.views import conversation_messages, dataset_summary, dataset_table

FIRST_SAMPLE = next(iter(SAMPLES))
STATE_KEY = "only-an-id"  # the browser keeps which dataset was chosen; that is no secret

FORMAT_HELP = """\
A **JSON list** with one entry per example (the Alpaca format):

```json
[
  {"instruction": "Translate to French", "input": "Good morning", "output": "Bonjour"},
  {"instruction": "Who are you?", "output": "I am Juniper, made by Lantern Labs."}
]
```

- `instruction`: the question or task. **Needed.**
- `output`: the answer the model should learn. **Needed.**
- `input`: text the task is about; it follows the instruction. Optional.
- `system`: how the assistant should behave. Optional.
- `history`: earlier turns, as `[["question", "answer"], …]`. Optional.

Save the file as UTF-8 text. From about 50 examples on a model picks up a style or a name; a task such
as sorting reviews wants a few hundred.
"""


def build_data_tab(services: Services, page: gr.Blocks) -> gr.Dropdown:
    """Lay the tab out and wire it; return the choice of the dataset."""
    remembered = gr.BrowserState(FIRST_SAMPLE, storage_key="workbench-dataset", secret=STATE_KEY)
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
                label="Add your own: drop a .json file here",
                file_types=[".json"],
                height=150,
                elem_id="data-upload",
            )
            with gr.Accordion("What must the file look like?", open=False):
                gr.Markdown(FORMAT_HELP)
        with gr.Column(scale=5, min_width=420):
            summary = gr.Markdown(elem_id="data-summary")
            table = gr.Dataframe(
                label="Examples (click one to read it as a chat)",
                interactive=False,
                wrap=False,
                max_height=300,
                datatype="str",
                elem_id="data-table",
            )
            conversation = gr.Chatbot(
                label="What the model learns from example 1",
                height=280,
                render_markdown=False,
                allow_tags=False,
                buttons=[],
                elem_id="data-conversation",
            )

    @user_errors
    def show(dataset_id: str) -> list[Any]:
        info, data = services.datasets.info(dataset_id), services.datasets.load(dataset_id)
        headers, rows = dataset_table(data)
        return [
            dataset_summary(info, data),
            gr.Dataframe(value=rows, headers=headers, column_widths=_column_widths(headers)),
            _conversation(data.conversations[0]["messages"], 1),
        ]

    def reopen(dataset_id: str) -> Any:
        """List what is here now, and choose what this browser chose last if it still is."""
        choices = dataset_choices(services)
        known = dataset_id in [identity for _, identity in choices]
        return gr.Dropdown(choices, value=dataset_id if known else FIRST_SAMPLE)

    @user_errors
    def add(path: str | None) -> Any:
        if path is None:
            return gr.skip()
        info = services.datasets.add(Path(path), Path(path).name)
        return gr.Dropdown(dataset_choices(services), value=info.id)

    @user_errors
    def select(dataset_id: str, event: gr.SelectData) -> Any:
        row = int(event.row_value[0]) - 1  # not the position: the table may have been sorted
        data = services.datasets.load(dataset_id)
        return _conversation(data.conversations[row]["messages"], row + 1)

    shown = [summary, table, conversation]
    upload.upload(add, upload, dataset, **PRIVATE)
    # Empty the drop zone either way: a refused file must not look accepted, and the next one fits.
    upload.upload(lambda: None, None, upload, **PRIVATE)
    dataset.change(lambda dataset_id: dataset_id, dataset, remembered, **QUIET)
    gr.on([page.load, dataset.change], show, dataset, shown, **QUIET)
    table.select(select, dataset, conversation, **QUIET)
    page.load(reopen, remembered, dataset, **QUIET)
    return dataset


def dataset_choices(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every dataset: samples first, then uploads."""
    samples = [(f"Sample: {purpose}", sample) for sample, (_, purpose) in SAMPLES.items()]
    uploads = [
        (f"{info.name} ({info.row_count:,} examples)", info.id)
        for info in services.datasets.uploads()
    ]
    return samples + uploads


def _conversation(messages: Any, number: int) -> Any:
    return gr.Chatbot(
        conversation_messages(messages), label=f"What the model learns from example {number}"
    )


def _column_widths(headers: list[str]) -> list[str]:
    rest = (100 - 8) // (len(headers) - 1)
    return ["8%", *[f"{rest}%"] * (len(headers) - 1)]
