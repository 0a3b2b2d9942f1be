"""Evaluate tab, one row: where the answers differ from the expected one, and putting it into a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.good_answers import keep_answer, kept_words
from workbench.services import Services
from workbench.ui.difference_views import differences_html
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors

if TYPE_CHECKING:
    from workbench.evaluation.result import Evaluation, RowResult

EXPECTED, TUNED = "expected", "tuned"


@dataclass(frozen=True)
class RowPanel:
    """One row of the table.

    Attributes:
        panel: All of it; hidden until a row is clicked.
        differences: The expected answer beside those of the models.
        opened: The row; of this person's page.
        keep: By which answer is kept, the button that does.
        note: What came of it.
    """

    panel: gr.Column
    differences: gr.HTML
    opened: gr.State
    keep: dict[str, gr.Button]
    note: gr.Markdown


def build_row_panel() -> RowPanel:
    """Lay it out."""
    with gr.Column(visible=False, elem_id="evaluate-row") as panel:
        differences = gr.HTML(elem_id="evaluate-differences")
        with gr.Row():
            keep = {
                name: gr.Button(
                    f"Add it to a dataset with the {name} answer",
                    size="sm",
                    min_width=200,
                    elem_id=f"evaluate-keep-{name}",
                )
                for name in (EXPECTED, TUNED)
            }
        note = gr.Markdown(elem_id="evaluate-kept", elem_classes="wb-help")
    return RowPanel(panel, differences, gr.State(None), keep, note)


def wire_row_panel(
    row: RowPanel,
    services: Services,
    table: gr.Dataframe,
    asked: list[Any],
    evaluation_of: Callable[..., Evaluation | None],
) -> None:
    """Wire it.

    Args:
        row: What was laid out.
        services: Where the datasets are.
        table: The rows; a click on one opens it.
        asked: The choices that say which evaluation is meant.
        evaluation_of: Takes their values; ``None`` where nothing was evaluated.
    """

    @user_errors
    def open_row(
        run_id: str | None,
        others: list[str] | None,
        model: str,
        data_id: str,
        most: str,
        event: gr.SelectData,
    ) -> list[Any]:
        evaluation = evaluation_of(run_id, others, model, data_id, most)
        opened = _find(evaluation, event.row_value) if evaluation else None
        if opened is None:  # it was evaluated anew meanwhile
            return close()
        return [
            gr.Column(visible=True),
            row_html(opened),
            opened,
            gr.Button(visible=bool(opened.expected.strip())),
            gr.Button(visible=opened.tuned is not None and bool(opened.tuned.answer.strip())),
            "",
        ]

    def close() -> list[Any]:
        return [gr.Column(visible=False), "", None, *[gr.skip()] * 3]

    def keeper(name: str) -> Any:
        """Return a handler that puts the row with one of its answers into the dataset."""

        @user_errors
        def keep(opened: RowResult | None) -> str:
            if opened is None:
                raise WorkbenchError("No row is open.", "Click a row of the table first.")
            tuned = opened.tuned.answer if opened.tuned else ""
            answer: Message = {
                "role": "assistant",
                "content": opened.written if name == EXPECTED else tuned,
            }
            return kept_words(keep_answer(services, [*opened.asked, answer]))

        return keep

    shown = [row.panel, row.differences, row.opened, *row.keep.values(), row.note]
    table.select(open_row, asked, shown, **QUIET)
    gr.on([choice.change for choice in asked], close, None, shown, **FOLLOW)
    for name, button in row.keep.items():
        button.click(keeper(name), row.opened, row.note, concurrency_limit=1, **PRIVATE)


def row_html(row: RowResult) -> str:
    """Draw a row's question, and the expected answer beside each model's, as HTML of escaped values."""
    sides = (("Before training", row.base), ("Tuned", row.tuned))
    return "".join(
        differences_html("Expected", row.expected, name, side.answer)
        for name, side in sides
        if side
    )


def _find(evaluation: Evaluation, cells: list[Any]) -> RowResult | None:
    """Return the row whose cells were clicked; not by its position: the table may have been sorted."""
    number, question, expected = (str(cell) for cell in cells[:3])
    for row in evaluation.rows:
        if (str(row.row), row.question, row.expected) == (number, question, expected):
            return row
    return None
