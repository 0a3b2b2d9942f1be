"""Data tab, upper part: what the check found, repairs, and the form that asks which column is what."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.data.adding import add_in_child
from workbench.data.fixes import offered_fixes
from workbench.data.formats import Mapping
from workbench.data.report import Report
from workbench.data.store import SAMPLES, DatasetInfo
from workbench.services import Services
from workbench.ui.data_views import checking_html, report_html, shorten
from workbench.ui.guard import FOLLOW, PRIVATE, user_errors

# Ticked from the start: they lose nothing a person would want to keep. Others may be meant as they are.
SAFE_FIXES = ("convert", "cut-unanswered", "trim", "deduplicate", "drop-invalid")
NONE = "(none)"


@dataclass(frozen=True)
class CheckView:
    """What the rest of the Data tab needs of this part."""

    report: gr.HTML


def build_check_view(services: Services, page: gr.Blocks, dataset: gr.Dropdown) -> CheckView:
    """Lay it out and wire it."""
    report_view = gr.HTML(elem_id="data-summary")
    with gr.Group(visible=False, elem_id="data-repair") as repair_box:
        fixes = gr.CheckboxGroup(
            label="Repairs",
            info="Your file is not touched; a repaired copy is added.",
            elem_id="data-fixes",
        )
        repair = gr.Button("Add a repaired copy", variant="primary", elem_id="data-repair-button")
    with gr.Accordion(
        "Which column is what?", visible=False, open=False, elem_id="data-columns"
    ) as form:
        first_rows = gr.Dataframe(
            label="The first rows of the file", interactive=False, datatype="str", max_height=200
        )
        with gr.Row():
            question = _column("Question or instruction")
            text = _column("Text it is about (optional)")
            answer = _column("Answer to learn")
        with gr.Row():
            system = _column("System prompt (optional)")
            messages = _column("Or: a whole conversation, as a list of turns")
            prefix = gr.Textbox(
                label="Put before every question (optional)",
                placeholder="Is this review positive or negative?",
                max_lines=2,
                min_width=180,
            )
        apply = gr.Button("Read the file like this", variant="primary", elem_id="data-apply")

    columns = [question, text, answer, system, messages]

    @user_errors
    def show(dataset_id: str) -> list[Any]:
        report = services.datasets.report(dataset_id)
        offers = offered_fixes(report) if report.mapping else {}
        ticked = [name for name in offers if name in SAFE_FIXES]
        choices = [(words, name) for name, words in offers.items()]
        return [
            report_html(report),
            gr.Group(visible=bool(offers)),
            gr.CheckboxGroup(choices, value=ticked),
            gr.Accordion(visible=True, open=report.mapping is None),
            _preview(report),
            *_chosen(report),
            report.mapping.prefix if report.mapping else "",
        ]

    @user_errors
    def make_repaired(dataset_id: str, names: list[str]) -> Iterator[Any]:
        report = services.datasets.report(dataset_id)
        if not names:
            gr.Info("Tick what to repair first.")
            return
        yield checking_html(report.name), gr.skip()
        mapping = report.mapping if report.format == "mapped" else None
        path = services.datasets.original_path(dataset_id)
        try:
            info = add_in_child(services.settings, path, report.name, mapping, names)
        finally:
            yield report_html(report), gr.skip()
        gr.Info("The repaired copy is chosen now.")
        yield gr.skip(), gr.Dropdown(dataset_choices(services), value=info.id)

    @user_errors
    def read_again(dataset_id: str, *values: str) -> Iterator[Any]:
        info, report = services.datasets.info(dataset_id), services.datasets.report(dataset_id)
        names = ["" if value in (NONE, None) else value for value in values]
        mapping = Mapping(
            question=names[0] if not names[4] else "",
            input=names[1] if not names[4] else "",
            answer=names[2] if not names[4] else "",
            system=names[3],
            messages=names[4],
            prefix=names[5].strip(),
        )
        yield checking_html(report.name), gr.skip()
        path = services.datasets.original_path(dataset_id)
        try:
            new = add_in_child(services.settings, path, info.name, mapping)
        finally:
            yield report_html(report), gr.skip()
        if report.mapping is None and new.id != dataset_id:
            services.datasets.delete(dataset_id)  # it only waited for this answer
        yield gr.skip(), gr.Dropdown(dataset_choices(services), value=new.id)

    shown = [report_view, repair_box, fixes, form, first_rows, *columns, prefix]
    gr.on([page.load, dataset.change], show, dataset, shown, **FOLLOW)
    changed = [report_view, dataset]
    repair.click(make_repaired, [dataset, fixes], changed, **PRIVATE)
    apply.click(read_again, [dataset, *columns, prefix], changed, **PRIVATE)
    return CheckView(report_view)


def dataset_names(services: Services) -> dict[str, str]:
    """Return a name for every dataset by its id, no two the same: the second ``train.json`` is ``train.json (2)``."""
    return _names(services.datasets.uploads())


def _names(uploads: Sequence[DatasetInfo]) -> dict[str, str]:
    """Name the samples first, then what was added, which comes the newest first, from the oldest on."""
    named = [(sample, file_name) for sample, (file_name, _) in SAMPLES.items()]
    named += [(info.id, info.name) for info in reversed(uploads)]
    names: dict[str, str] = {}
    for dataset_id, name in named:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        candidates = itertools.chain([name], numbered)
        names[dataset_id] = next(one for one in candidates if one not in names.values())
    return names


def dataset_choices(services: Services) -> list[tuple[str, str]]:
    """Return label and id of every dataset: samples first, then what was added."""
    infos = services.datasets.uploads()
    names = _names(infos)
    samples = [(f"Sample: {purpose}", sample) for sample, (_, purpose) in SAMPLES.items()]
    uploads = [
        (
            f"{names[info.id]} ({info.row_count:,} examples)"
            if info.is_usable
            else f"{names[info.id]} (needs repair)",
            info.id,
        )
        for info in infos
    ]
    return samples + uploads


def _column(label: str) -> gr.Dropdown:
    return gr.Dropdown([NONE], value=NONE, label=label, min_width=180)


def _chosen(report: Report) -> list[Any]:
    """Return the column choices, set to how the file was read."""
    mapping = report.mapping or Mapping()
    values = (mapping.question, mapping.input, mapping.answer, mapping.system, mapping.messages)
    choices = [NONE, *report.fields]
    return [gr.Dropdown(choices, value=v if v in report.fields else NONE) for v in values]


def _preview(report: Report) -> Any:
    headers = [field[:60] for field in report.fields[:30]]
    rows = [[shorten(row.get(field, "")) for field in report.fields[:30]] for row in report.preview]
    return gr.Dataframe(value=rows, headers=headers)
