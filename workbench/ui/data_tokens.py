"""Data tab: the examples as the chosen model sees them, token by token, and how long they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.models.catalogue import ModelSource, find_model
from workbench.models.tokens import histogram, token_report
from workbench.services import Services
from workbench.ui.charts import length_figure
from workbench.ui.configure_tab import ConfigureTab
from workbench.ui.data_rows import RowsView
from workbench.ui.data_views import fate_words, length_words
from workbench.ui.guard import FOLLOW, user_errors
from workbench.ui.views import plain

COUNTED, READ = "The model learns to write this", "The model only reads this"
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

    def chosen_model(model_id: str) -> ModelSource:
        source = find_model(model_id)
        if not services.models.is_here(source):
            raise WorkbenchError(
                f"{source.label} is not on this computer yet, so its tokens cannot be counted.",
                "The starter model comes by itself in a minute; another one when training starts.",
            )
        return source

    @user_errors
    def count(opened: bool, dataset_id: str, *values: Any) -> Iterator[list[Any]]:
        info = services.datasets.info(dataset_id)
        if not opened or not info.row_count:
            return
        try:
            source = chosen_model(values[model_at])
            if services.token_lengths(info, source) is None:
                yield [f"Counting the tokens of {info.row_count:,} examples …", gr.skip()]
                services.count_tokens(info, source)
            counts = services.token_lengths(info, source)
            assert counts is not None
            limit = configure.read(services, values)[0].config.limit_tokens
        except WorkbenchError as error:
            yield [plain(str(error)), gr.Plot(visible=False)]
            return
        report = token_report(counts, limit)
        figure = length_figure(histogram(counts), limit)
        yield [length_words(report, len(counts), limit), gr.Plot(figure, visible=True)]

    @user_errors
    def preview(opened: bool, dataset_id: str, position: int, *values: Any) -> list[Any]:
        found = services.datasets.rows(dataset_id, position, 1)
        if not opened or not found:
            return [gr.skip(), gr.HighlightedText(visible=False)]
        try:
            model_dir = services.models.directory(chosen_model(values[model_at]))
            config = configure.read(services, values)[0].config
            shown = services.tokenizer.preview(
                model_dir, found[0].messages, config.limit_tokens, config.too_long
            )
        except WorkbenchError as error:
            return [plain(str(error)), gr.HighlightedText(visible=False)]
        marked = [(text, COUNTED if counts else READ) for text, counts in shown.pieces]
        return [fate_words(found[0].row, shown), gr.HighlightedText(marked, visible=True)]

    model, limit = configure.component("model"), configure.component("max_length")
    too_long = configure.component("too_long")
    model_at = configure.components.index(model)
    box.expand(lambda: True, None, is_open, **FOLLOW)
    box.collapse(lambda: False, None, is_open, **FOLLOW)
    shown = [is_open, rows.dataset, model, limit]
    gr.on(
        [part.change for part in shown],
        count,
        [is_open, rows.dataset, *configure.components],
        [lengths, chart],
        **FOLLOW,
    )
    gr.on(
        [part.change for part in [*shown, rows.position, too_long]],
        preview,
        [is_open, rows.dataset, rows.position, *configure.components],
        [fate, pieces],
        **FOLLOW,
    )
