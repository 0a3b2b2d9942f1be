"""Data tab: the examples as the chosen model sees them, token by token, and how long they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.models.sources import ModelSource, find_model
from workbench.models.tokens import histogram, token_report
from workbench.services import Services
from workbench.ui.charts import length_figure
from workbench.ui.configure_tab import ConfigureTab, Reading
from workbench.ui.data_rows import RowsView
from workbench.ui.data_views import fate_words, length_words
from workbench.ui.guard import FOLLOW, user_errors
from workbench.ui.views import plain

COUNTED, READ = "The model learns to write this", "The model only reads this"
NO_PLAN = "The settings in step 2 cannot be used yet. The plan there says why."
COLORS = {COUNTED: "#7fd1a2", READ: "#d5d9e2"}


def build_tokens_view(
    services: Services, page: gr.Blocks, rows: RowsView, configure: ConfigureTab
) -> None:
    """Lay it out and wire it."""
    with gr.Accordion("What the model sees", open=False, elem_id="data-tokens") as box:
        lengths = gr.Markdown(elem_id="data-lengths")
        chart = gr.Plot(show_label=False, visible=False, elem_id="data-histogram")
        fate = gr.Markdown(elem_id="data-fate")
        pieces = gr.HighlightedText(
            show_label=False,
            visible=False,
            combine_adjacent=False,
            show_legend=True,
            show_inline_category=False,
            color_map=COLORS,
            elem_id="data-pieces",
        )
    is_open = gr.State(False)

    def chosen_model(reading: Reading | None) -> ModelSource:
        if reading is None:
            raise WorkbenchError(NO_PLAN)
        source = find_model(reading.model)
        if not services.models.is_here(source):
            raise WorkbenchError(
                f"{source.label} is not on this computer yet, so its tokens cannot be counted.",
                "The starter model comes by itself in a minute; another one when training starts.",
            )
        return source

    @user_errors
    def count(opened: bool, reading: Reading | None, dataset_id: str) -> Iterator[list[Any]]:
        info = services.datasets.info(dataset_id)
        if not opened or not info.row_count:
            return
        try:
            source = chosen_model(reading)
            if services.token_lengths(info, source) is None:
                yield [f"Counting the tokens of {info.row_count:,} examples …", gr.skip()]
                services.count_tokens(info, source)
            counts = services.token_lengths(info, source)
        except WorkbenchError as error:
            yield [plain(str(error)), gr.Plot(visible=False)]
            return
        assert counts is not None
        assert reading is not None
        limit = reading.limit_tokens
        report = token_report(counts, limit)
        figure = length_figure(histogram(counts), limit)
        yield [length_words(report, len(counts), limit), gr.Plot(figure, visible=True)]

    @user_errors
    def preview(opened: bool, reading: Reading | None, dataset_id: str, position: int) -> list[Any]:
        found = services.datasets.rows(dataset_id, position, 1)
        if not opened or not found:
            return [gr.skip(), gr.HighlightedText(visible=False)]
        try:
            model_dir = services.models.directory(chosen_model(reading))
            assert reading is not None
            shown = services.tokenizer.preview(
                model_dir, found[0].messages, reading.limit_tokens, reading.too_long
            )
        except WorkbenchError as error:
            return [plain(str(error)), gr.HighlightedText(visible=False)]
        marked = [(text, COUNTED if counts else READ) for text, counts in shown.pieces]
        return [fate_words(found[0].row, shown), gr.HighlightedText(marked, visible=True)]

    box.expand(lambda: True, None, is_open, **FOLLOW)
    box.collapse(lambda: False, None, is_open, **FOLLOW)
    decides = [is_open, configure.reading, rows.dataset]
    gr.on([part.change for part in decides], count, decides, [lengths, chart], **FOLLOW)
    decides = [*decides, rows.position]
    gr.on([part.change for part in decides], preview, decides, [fate, pieces], **FOLLOW)
