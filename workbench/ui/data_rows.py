"""Data tab, lower part: the examples as a table, and one of them as a chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.data.conversations import find_stored_rows
from workbench.services import Services
from workbench.ui.data_views import rows_table
from workbench.ui.guard import FOLLOW, QUIET, user_errors
from workbench.ui.views import conversation_messages
from workbench.words import describe_rows

ROWS_PER_PAGE = 50


@dataclass(frozen=True)
class RowsView:
    """The dataset, and the position of the row that is shown as a chat."""

    dataset: gr.Dropdown
    position: gr.State


def build_rows_view(services: Services, page: gr.Blocks, dataset: gr.Dropdown) -> RowsView:
    """Lay it out and wire it."""
    with gr.Row(equal_height=True) as controls:
        search = gr.Textbox(
            label="Find rows with these words",
            max_lines=1,
            scale=3,
            min_width=200,
            elem_id="data-search",
        )
        page_number = gr.Number(
            value=1,
            precision=0,
            step=1,
            label="Page",
            scale=1,
            min_width=110,
            elem_id="data-page",
        )
    table = gr.Dataframe(
        label="Examples (click one to read it as a chat)",
        interactive=False,
        wrap=False,
        max_height=300,
        datatype="str",
        elem_id="data-table",
    )
    conversation = gr.Chatbot(
        label="What the model learns",
        min_height=150,
        max_height=320,
        height=None,
        render_markdown=False,
        allow_tags=False,
        buttons=[],
        elem_id="data-conversation",
    )
    positions = gr.State([0])  # where the rows of the table stand among the usable rows
    chosen = gr.State(0)
    of_dataset = gr.State(None)  # the dataset that the search and the page are of

    @user_errors
    def show(dataset_id: str, words: str, number: float | None) -> list[Any]:
        info = services.datasets.info(dataset_id)
        first = ROWS_PER_PAGE * (max(1, int(number or 1)) - 1)
        if words.strip():
            path = services.datasets.path(dataset_id)
            found = list(find_stored_rows(path, words.strip(), first + ROWS_PER_PAGE + 1))
            shown = _found_words(first, len(found))
            found = found[first : first + ROWS_PER_PAGE]
            places, rows = [place for place, _ in found], [row for _, row in found]
        else:
            rows = services.datasets.rows(dataset_id, first, ROWS_PER_PAGE)
            places = list(range(first, first + len(rows)))
            shown = f"{first + 1:,} to {first + len(rows):,} of {info.row_count:,}"
            if not rows:
                shown = f"there are only {info.row_count:,}"
        headers, cells = rows_table(rows)
        label = f"Examples: {shown}. Click one to read it as a chat"
        widths = _column_widths(headers)
        filled = gr.Dataframe(
            value=cells,
            headers=headers,
            label=label,
            column_widths=widths,
            visible=info.row_count > 0,
        )
        has_rows = gr.Row(visible=info.row_count > 0)
        if not rows:
            return [has_rows, filled, [0], gr.Chatbot([], visible=False), gr.skip()]
        return [has_rows, filled, places, _chat(rows[0]), places[0]]

    def begin(dataset_id: str, last_id: str | None) -> list[Any]:
        """Begin at the first row of another dataset; a busy page also says "changed" of the same one."""
        return [gr.skip()] * 3 if dataset_id == last_id else ["", 1, dataset_id]

    @user_errors
    def select(dataset_id: str, places: list[int], event: gr.SelectData) -> list[Any]:
        number = int(event.row_value[0])  # not the position: the table may have been sorted
        rows = services.datasets.rows(dataset_id, places[0], places[-1] - places[0] + 1)
        place, row = next(
            (places[0] + index, row) for index, row in enumerate(rows) if row.row == number
        )
        return [_chat(row), place]

    shown = [controls, table, positions, conversation, chosen]
    inputs = [dataset, search, page_number]
    gr.on([page.load, search.submit, page_number.change], show, inputs, shown, **FOLLOW)
    begun = dataset.change(
        begin, [dataset, of_dataset], [search, page_number, of_dataset], **FOLLOW
    )
    begun.then(show, inputs, shown, **FOLLOW)
    search.submit(lambda: 1, None, page_number, **QUIET)
    table.select(select, [dataset, positions], [conversation, chosen], **QUIET)
    return RowsView(dataset, chosen)


def _chat(row: Any) -> Any:
    label = f"What the model learns from row {row.row:,}"
    return gr.Chatbot(conversation_messages(row.messages), label=label, visible=True)


def _column_widths(headers: list[str]) -> list[str]:
    widths = {"Row": 8, "Turns before": 12, "System prompt": 20}
    rest = 100 - sum(widths.get(header, 0) for header in headers)
    return [f"{widths.get(header, rest // 2)}%" for header in headers]


def _found_words(first: int, found: int) -> str:
    """Say which of the rows that were found are shown.

    Args:
        first: Rows on the pages before this one.
        found: Rows up to this page's end, and one more where there is one.
    """
    here = min(found - first, ROWS_PER_PAGE)
    if not found:
        return "No row has these words"
    if here <= 0:
        return f"only {describe_rows(found)} with these words"
    shown = f"{first + 1:,} to {first + here:,}"
    if found > first + here:
        return f"{shown} of those with these words, there are more"
    return f"{shown} of {found:,} with these words"
