"""Data tab: several datasets in one run, and what the model is checked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from workbench.data.split import weighted_rows
from workbench.errors import WorkbenchError
from workbench.services import DataChoice, Services
from workbench.ui.data_check import dataset_choices, dataset_names
from workbench.ui.guard import FOLLOW, user_errors
from workbench.ui.views import plain

HELD_BACK = ""  # check with rows held back from the data


def build_mix_view(
    services: Services, page: gr.Blocks, tab: gr.Tab, dataset: gr.Dropdown
) -> list[Any]:
    """Lay it out and wire it; return what ``read_choice`` reads."""
    with gr.Accordion("Mix datasets, choose what to check with", open=False, elem_id="data-mix"):
        more = gr.Dropdown(
            [],
            value=[],
            multiselect=True,
            label="Learn from these, too",
            info="One model then learns several tasks.",
            elem_id="data-more",
        )
        weights = gr.Dataframe(
            headers=["Dataset", "Rows", "Weight"],
            datatype=["str", "number", "number"],
            static_columns=[0, 1],
            column_widths=["50%", "25%", "25%"],
            interactive=True,
            visible=False,
            type="array",
            label="How often? Double-click a weight: 2 is twice an epoch, 0.5 half of the rows",
            elem_id="data-weights",
        )
        validation = gr.Dropdown(
            [("Rows held back from the data", HELD_BACK)],
            value=HELD_BACK,
            label="Check with",
            info="Rows the model never learns from show whether it learned more than the rows.",
            elem_id="data-validation",
        )
        note = gr.Markdown(elem_classes="wb-help")

    @user_errors
    def refresh(
        dataset_id: str, more_ids: list[str], table: list[list[Any]], validation_id: str
    ) -> list[Any]:
        """Offer what is there now, without what is chosen already."""
        ids = {name: identity for identity, name in dataset_names(services).items()}
        set_before = {ids[row[0]]: row[2] for row in table if row[0] in ids}
        return fill_mix(services, dataset_id, more_ids or [], set_before, validation_id)

    def describe(*values: Any) -> str:
        try:
            choice = read_choice(services, values)
        except WorkbenchError as error:
            return plain(str(error))
        if len(choice.parts) < 2:
            return ""
        names = dataset_names(services)
        counts = [
            f"{weighted_rows(info.row_count, weight):,} of {plain(names[info.id])}"
            for info, weight in choice.parts
        ]
        return f"An epoch has {', '.join(counts)} (before rows are held back)."

    inputs = [dataset, more, weights, validation]
    gr.on(
        [page.load, tab.select, dataset.change, more.input],
        refresh,
        inputs,
        inputs[1:],
        **FOLLOW,
    )
    gr.on([weights.change, validation.change], describe, inputs, note, **FOLLOW)
    return inputs


def fill_mix(
    services: Services,
    dataset_id: str,
    more_ids: Sequence[str],
    weights: Mapping[str, float],
    validation_id: str,
) -> list[Any]:
    """Return what all but the first of the mix's components show; what is gone is left out.

    Args:
        services: Where the datasets are.
        dataset_id: The first dataset.
        more_ids: Those learned from, too.
        weights: How often, by the id of a dataset; the others once.
        validation_id: What to check with, or ``HELD_BACK``.
    """
    others = [choice for choice in dataset_choices(services) if choice[1] != dataset_id]
    known = {identity for _, identity in others}
    kept = [identity for identity in more_ids if identity in known]
    checks = [choice for choice in others if choice[1] not in kept]
    still = validation_id in {identity for _, identity in checks}
    names = dataset_names(services)
    infos = [services.datasets.info(identity) for identity in (dataset_id, *kept)]
    return [
        gr.Dropdown(others, value=kept, multiselect=True),
        gr.Dataframe(
            value=[[names[info.id], info.row_count, weights.get(info.id, 1)] for info in infos],
            visible=bool(kept),
        ),
        gr.Dropdown(
            [("Rows held back from the data", HELD_BACK), *checks],
            value=validation_id if still else HELD_BACK,
        ),
    ]


def read_choice(services: Services, values: Sequence[Any]) -> DataChoice:
    """Read what the form says.

    Args:
        services: Where the datasets are.
        values: Of the components that ``build_mix_view`` returns.

    Raises:
        WorkbenchError: A dataset is not ready, or a weight is no number or out of range.
    """
    dataset_id, more_ids, table, validation_id = values
    ids = [dataset_id, *(more_ids or [])]
    if not more_ids:
        return services.choose_data({dataset_id: 1.0}, validation_id or None)
    if len(table) != len(ids):
        raise WorkbenchError(
            f"The table of weights has {len(table)} rows for {len(ids)} datasets.",
            "Choose the datasets again.",
        )
    weights = {identity: _weight(row) for identity, row in zip(ids, table, strict=True)}
    return services.choose_data(weights, validation_id or None)


def _weight(row: Sequence[Any]) -> float:
    try:
        return float(row[2])
    except (TypeError, ValueError) as error:
        raise WorkbenchError(
            f"The weight of {row[0]} cannot be {row[2]!r}.",
            "It must be a number, such as 1 or 0.5.",
        ) from error
