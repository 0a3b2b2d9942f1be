"""Runs tab: every run of the workspace, what the person says of it, and several side by side."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.deleting import delete_run
from workbench.downloads import folder_bytes
from workbench.errors import WorkbenchError
from workbench.export.history import check_none_runs, results_on_disk
from workbench.runs.side_by_side import MOST
from workbench.runs.status import RunSnapshot
from workbench.runs.store import NAME_CHARACTERS, Run
from workbench.runs.strength import kept_strength
from workbench.services import Services
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.runs_compare import build_comparison, comparison_choices
from workbench.ui.runs_views import (
    HEADERS,
    NO_RUNS,
    ORDERS,
    RunEntry,
    check_deletable,
    count_words,
    delete_question,
    find_entries,
    parent_words,
    read_tags,
    runs_table,
    sort_entries,
)
from workbench.ui.views import run_status

NOTE_CHARACTERS = 2_000
TAGS_CHARACTERS = 200
TABLE_PIXELS = 340
WIDTHS = [
    "195px",
    "110px",
    "130px",
    "175px",
    "105px",
    "135px",
    "60px",
    "150px",
    "110px",
    "180px",
    "240px",
]


@dataclass(frozen=True)
class _List:
    """The table of runs, and what chooses which it shows."""

    search: gr.Textbox
    order: gr.Dropdown
    refresh: gr.Button
    table: gr.Dataframe
    note: gr.Markdown


@dataclass(frozen=True)
class _Details:
    """The run that was clicked, and what can be done with it.

    ``chosen`` has its id. It is in the browser, so that what is saved or deleted is what is shown there, even
    if another run was clicked a moment ago.
    """

    chosen: gr.Textbox
    panel: gr.Column
    status: gr.HTML
    name: gr.Textbox
    tags: gr.Textbox
    note: gr.Textbox
    save: gr.Button
    compare: gr.Button
    duplicate: gr.Button
    delete: gr.Button
    question: gr.Markdown
    answers: gr.Row
    really: gr.Button
    keep: gr.Button

    @property
    def outputs(self) -> list[Any]:
        """What shows a run."""
        return [
            self.chosen, self.panel, self.status, self.name, self.tags, self.note, self.question,
            self.answers,
        ]  # fmt: skip


@dataclass(frozen=True)
class RunsTab:
    """What the page needs of it: the run that was clicked, by its id, and the button that duplicates it."""

    chosen: gr.Textbox
    duplicate: gr.Button


def build_runs_tab(services: Services, opened: gr.Tab) -> RunsTab:
    """Lay the tab out and wire it. It reads the runs when it is opened and when it changed one."""
    listed = _build_list()
    details = _build_details()
    comparison = build_comparison(services)
    chosen = details.chosen

    @user_errors
    def find(words: str, order: str) -> list[Any]:
        return _show_list(list_runs(services), words, order)

    @user_errors
    def renew(words: str, order: str, compared: list[str] | None, run_id: str) -> list[Any]:
        entries = list_runs(services)
        known = {entry.run.id: entry for entry in entries}
        clicked = known.get(run_id)
        details = _renew_details(services, clicked) if run_id else [gr.skip(), gr.skip()]
        return [
            *_show_list(entries, words, order),
            comparison_choices([entry.run for entry in entries], compared or []),
            *details,
        ]

    @user_errors
    def select(event: gr.SelectData) -> list[Any]:
        # Not by its position: the table may have been sorted, or be another one by now.
        return _show_run(services, _get(services, event.row_value[-1]))

    @user_errors
    def save(run_id: str, name: str, tags: str, note: str) -> None:
        services.runs.label(_get(services, run_id), name, read_tags(tags), note)
        gr.Info("Saved.", duration=3)

    @user_errors
    def add(run_id: str, compared: list[str] | None) -> Any:
        together = [*(compared or []), run_id]
        if len(set(together)) > MOST:
            raise WorkbenchError(
                f"{MOST} runs are compared already.", "Take one out of the list below first."
            )
        return gr.Dropdown(value=list(dict.fromkeys(together)))

    @user_errors
    def ask(run_id: str) -> list[Any]:
        run = _get(services, run_id)
        check_deletable(run, services.supervisor.summary(run))
        check_none_runs(run)
        question = delete_question(
            run,
            folder_bytes(run.checkpoints_dir),
            folder_bytes(run.model_dir),
            folder_bytes(run.directory),
            results_on_disk(run),
        )
        return [gr.Markdown(question, visible=True), gr.Row(visible=True)]

    @user_errors
    def delete(run_id: str) -> list[Any]:
        delete_run(services, _get(services, run_id))
        return ["", gr.Column(visible=False)]

    shown = [listed.note, listed.table]
    labels = [chosen, details.name, details.tags, details.note]
    wanted = [listed.search, listed.order]
    gr.on([component.change for component in wanted], find, wanted, shown, **FOLLOW)
    listed.table.select(select, None, details.outputs, **QUIET)
    saved = details.save.click(save, labels, None, **PRIVATE)
    details.compare.click(add, [chosen, comparison.runs], comparison.runs, **PRIVATE)
    details.delete.click(ask, chosen, [details.question, details.answers], **PRIVATE)
    details.keep.click(_hide_question, None, [details.question, details.answers], **QUIET)
    deleted = details.really.click(delete, chosen, [chosen, details.panel], **PRIVATE)
    for event in (opened.select, listed.refresh.click, saved.success, deleted.success):
        renewed = event(
            renew,
            [*wanted, comparison.runs, chosen],
            [*shown, comparison.runs, details.panel, details.status],
            **FOLLOW,
        )
        renewed.then(comparison.draw, comparison.inputs, comparison.outputs, **FOLLOW)
    return RunsTab(chosen, details.duplicate)


def list_runs(services: Services) -> list[RunEntry]:
    """Return all runs, the newest first; one that is being deleted or is damaged is left out."""
    entries = []
    for run in services.runs.all():
        try:
            entries.append(RunEntry(run, services.supervisor.summary(run)))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return entries


def _build_list() -> _List:
    with gr.Row(equal_height=True):
        search = gr.Textbox(
            label="Find runs with these words",
            placeholder="in name, model, method, data, tags, note or state",
            max_lines=1,
            scale=4,
            min_width=240,
            elem_id="runs-search",
        )
        order = gr.Dropdown(
            [(words, order) for order, words in ORDERS.items()],
            label="Order",
            scale=1,
            min_width=170,
            elem_id="runs-order",
        )
        refresh = gr.Button("Refresh", scale=0, min_width=110, elem_id="runs-refresh")
    table = gr.Dataframe(
        headers=HEADERS,
        label="Runs (click one to rename, compare, duplicate or delete it)",
        interactive=False,
        wrap=False,
        max_height=TABLE_PIXELS,
        datatype="str",
        column_widths=WIDTHS,
        visible=False,
        elem_id="runs-table",
    )
    note = gr.Markdown(NO_RUNS, elem_id="runs-note", elem_classes="wb-help")
    return _List(search, order, refresh, table, note)


def _build_details() -> _Details:
    chosen = gr.Textbox(visible="hidden", elem_id="runs-chosen")
    with gr.Column(visible=False, elem_id="runs-details", elem_classes="wb-chosen") as panel:
        status = gr.HTML(elem_id="runs-status")
        with gr.Row():
            name = gr.Textbox(
                label="Name", max_lines=1, max_length=NAME_CHARACTERS, elem_id="runs-name"
            )
            tags = gr.Textbox(
                label="Tags, separated by commas",
                max_lines=1,
                max_length=TAGS_CHARACTERS,
                elem_id="runs-tags",
            )
        note = gr.Textbox(
            label="Note",
            placeholder="What you wanted to find out, and what you saw",
            lines=2,
            max_lines=8,
            max_length=NOTE_CHARACTERS,
            elem_id="runs-text",
        )
        with gr.Row():
            save = gr.Button("Save", variant="primary", min_width=110, elem_id="runs-save")
            compare = gr.Button("Add to comparison", min_width=150, elem_id="runs-add")
            duplicate = gr.Button("Duplicate with changes", elem_id="runs-duplicate")
            delete = gr.Button("Delete …", variant="stop", min_width=110, elem_id="runs-delete")
        question = gr.Markdown(visible=False, elem_id="runs-question")
        with gr.Row(visible=False) as answers:
            really = gr.Button("Delete it", variant="stop", size="sm", elem_id="runs-really")
            keep = gr.Button("Keep it", size="sm", elem_id="runs-keep")
    return _Details(
        chosen, panel, status, name, tags, note, save, compare, duplicate, delete, question, answers,
        really, keep,
    )  # fmt: skip


def _show_list(entries: list[RunEntry], words: str, order: str) -> list[Any]:
    found = sort_entries(find_entries(entries, words), order)
    return [
        count_words(len(found), len(entries)),
        gr.Dataframe(runs_table(found), visible=bool(found)),
    ]


def _show_run(services: Services, run: Run) -> list[Any]:
    status = _status(services, run, services.supervisor.summary(run))
    tags = ", ".join(run.tags)
    return [run.id, gr.Column(visible=True), status, run.name, tags, run.note, *_hide_question()]


def _renew_details(services: Services, clicked: RunEntry | None) -> list[Any]:
    if clicked is None:  # deleted meanwhile, in another window
        return [gr.Column(visible=False), gr.skip()]
    status = _status(services, clicked.run, clicked.snapshot)
    return [gr.Column(visible=True), status]


def _status(services: Services, run: Run, snapshot: RunSnapshot) -> str:
    parent = None
    if run.parent:
        with suppress(WorkbenchError):  # it was deleted
            parent = services.runs.get(run.parent)
    return run_status(run, snapshot, kept_strength(run), parent_words(run, parent))


def _hide_question() -> list[Any]:
    return [gr.Markdown(visible=False), gr.Row(visible=False)]


def _get(services: Services, run_id: str) -> Run:
    try:
        return services.runs.get(run_id)
    except WorkbenchError as error:
        raise WorkbenchError("This run was deleted meanwhile.", "Press Refresh.") from error
