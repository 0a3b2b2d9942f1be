"""Configure tab: model, method and settings; beside them the plan, always up to date."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.config import TrainingConfig, build_config
from workbench.errors import WorkbenchError
from workbench.models.sources import find_model
from workbench.plan import Plan
from workbench.services import DataChoice, Services
from workbench.ui.configure_choices import (
    NO_PRESET,
    build_choices,
    describe_model_here,
    general_choices,
    method_choices,
    method_words,
    model_choices,
    preset_choices,
)
from workbench.ui.data_mix import read_choice
from workbench.ui.form import (
    automatic_fields,
    automatic_update,
    build_field,
    field_names,
    instead_of,
    is_switch,
    preset_values,
    read_form,
)
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.models_view import ModelsView
from workbench.ui.plan_panel import build_plan_panel, drive
from workbench.ui.remembering import build_remembering

AUTOMATIC_WORDS = (
    "Fields that say *auto* are chosen for you; the plan says why. Empty a field to go back."
)


@dataclass(frozen=True)
class Reading:
    """How a run would read the examples.

    Attributes:
        model: The model's id.
        limit_tokens: The longest example, in tokens.
        too_long: What happens to longer ones, as in ``TrainingConfig.too_long``.
    """

    model: str
    limit_tokens: int
    too_long: str


@dataclass(frozen=True)
class ConfigureTab:
    """What other tabs need: the components that decide what will happen, and how to read their values.

    Attributes:
        names: The settings.
        settings: Their components, in the same order.
        components: Those of the data, then those of the settings.
        reading: A ``gr.State`` with the ``Reading`` of the last plan, or ``None`` when there is no plan.
        preset: What the person started from.
        models: What is known of the model, and the access token for a gated one.
    """

    names: list[str]
    settings: list[Any]
    components: list[Any]
    reading: gr.State
    preset: gr.Dropdown
    models: ModelsView

    def read(self, services: Services, values: Sequence[Any]) -> tuple[Plan, DataChoice]:
        """Work out the plan for what the components say.

        Raises:
            WorkbenchError: A setting or a dataset cannot be used.
        """
        data = read_choice(services, values[: self._data_count])
        return services.plan(self.config(services, values), data), data

    def config(self, services: Services, values: Sequence[Any]) -> TrainingConfig:
        """Read the settings alone.

        Raises:
            WorkbenchError: A setting cannot be used.
        """
        return services.configure(None, read_form(self.names, values[self._data_count :]))

    @property
    def _data_count(self) -> int:
        return len(self.components) - len(self.settings)


def build_configure_tab(
    services: Services, page: gr.Blocks, opened: gr.Tab, data: list[Any]
) -> ConfigureTab:
    """Lay the tab out and wire it."""
    with gr.Row():
        with gr.Column(scale=5, min_width=420):
            choices = build_choices(services, page)
            preset, model, method = choices.preset, choices.model, choices.method
            fields: dict[str, Any] = {}
            switches = [name for name in field_names("basic") if is_switch(name)]
            with gr.Row():
                for name in field_names("basic"):
                    if name not in switches:
                        fields[name] = build_field(name)
            for name in switches:  # a sentence beside a box needs the whole width
                fields[name] = build_field(name)
            with gr.Row():
                gr.Markdown(AUTOMATIC_WORDS, elem_classes="wb-help")
                reset = gr.Button(
                    "Back to automatic",
                    size="sm",
                    scale=0,
                    min_width=160,
                    elem_id="configure-reset",
                )
            with gr.Accordion("Advanced", open=False), gr.Row():
                for name in field_names("advanced"):
                    fields[name] = build_field(name)
            with gr.Accordion("Keep these settings", open=False), gr.Row(equal_height=True):
                label = gr.Textbox(
                    label="Name of your preset",
                    max_lines=1,
                    max_length=60,
                    elem_id="configure-label",
                )
                save = gr.Button("Save", scale=0, min_width=110, elem_id="configure-save")
                delete = gr.Button(
                    "Delete the one above", scale=0, min_width=180, elem_id="configure-delete"
                )
        with gr.Column(scale=3, min_width=280, elem_classes="wb-plan"):
            panel = build_plan_panel()

    names = ["model", "method", *fields]
    settings = [model, method, *fields.values()]
    tab = ConfigureTab(names, settings, [*data, *settings], gr.State(), preset, choices.models)
    automatic = automatic_fields(list(fields))
    preset_before = gr.State(NO_PRESET)
    general = fields["general_data"]

    def update_plan(*values: Any) -> list[Any]:
        try:
            plan, chosen = tab.read(services, values)
            remedies = (
                services.remedies(tab.config(services, values), chosen)
                if plan.fit == "will not fit"
                else []
            )
        except WorkbenchError as error:
            return [*panel.show_problem(error), None, *[gr.skip()] * len(automatic)]
        config = plan.config
        reading = Reading(config.model, config.limit_tokens, config.too_long)
        hints = [automatic_update(name, config) for name in automatic]
        return [*panel.show(plan, chosen, remedies), reading, *hints]

    @user_errors
    def count_tokens(*values: Any) -> None:
        """Count what the plan estimates until then: how long the examples are."""
        try:
            plan, chosen = tab.read(services, values)
        except WorkbenchError:
            return  # the plan says it
        for info, _ in chosen.parts:
            services.count_tokens(info, find_model(plan.config.model))

    def settings_of(name: str) -> dict[str, Any]:
        return {} if name == NO_PRESET else services.starting_points.settings(name)

    @user_errors
    def apply_preset(name: str, before: str, model_id: str, method_id: str) -> list[Any]:
        """Fill the form; model and method of the starting point before go with it, those a person chose stay."""
        # A page that was loaded again has brought it back, with what was changed since.
        if name == before:
            return [gr.skip()] * (len(names) + 1)
        chosen, earlier = settings_of(name), {}
        with contextlib.suppress(WorkbenchError):  # it was deleted meanwhile
            earlier = settings_of(before)
        now = {"model": model_id, "method": method_id}
        return [*preset_values(instead_of(earlier, now) | chosen, names), name]

    def describe_model(model_id: str | None) -> list[Any]:
        return [
            describe_model_here(services, model_id or ""),
            gr.update(choices=method_choices(services, model_id)),
        ]

    def describe_method(method_id: str) -> list[Any]:
        config = build_config({"method": method_id})
        return [
            method_words(method_id),
            *(gr.update(visible=config.uses(name)) for name in fields),
        ]

    def apply_remedy(remedies: list[dict[str, Any]], number: int) -> list[Any]:
        changes = remedies[number]
        return [changes.get(name, gr.skip()) for name in names]

    @user_errors
    def save_preset(name: str, *values: Any) -> list[Any]:
        tab.config(services, values)  # say what is wrong with it, before it is kept
        saved = services.starting_points.save(name, read_form(names, values[-len(names) :]))
        return [gr.Dropdown(preset_choices(services), value=saved.id), ""]

    @user_errors
    def delete_preset(point_id: str) -> Any:
        services.starting_points.delete(point_id)
        return gr.Dropdown(preset_choices(services), value=NO_PRESET)

    @user_errors
    def test_drive(*values: Any) -> Iterator[list[Any]]:
        _, chosen = tab.read(services, values)
        yield from drive(services, tab.config(services, values), chosen)

    begun = [preset, preset_before, model, method]
    filled = [
        build_remembering(services, page, preset, preset_before, names, settings),
        preset.change(apply_preset, begun, [*settings, preset_before], **PRIVATE),
    ]
    known = choices.models.known
    described = [choices.model_help, method]
    gr.on([model.change, known.change], describe_model, model, described, **FOLLOW)
    method.change(describe_method, method, [choices.method_help, *fields.values()], **FOLLOW)
    emptied = [fields[name] for name in automatic]
    filled.append(reset.click(lambda: [""] * len(automatic), None, emptied, **PRIVATE))
    for number, button in enumerate(panel.buttons):
        apply = functools.partial(apply_remedy, number=number)
        filled.append(button.click(apply, panel.remedies, settings, **PRIVATE))
    save.click(save_preset, [label, *tab.components], [preset, label], **PRIVATE)
    delete.click(delete_preset, preset, preset, **PRIVATE)
    # The person may have put a model of their own into the workspace since.
    page.load(lambda: gr.update(choices=model_choices(services)), None, model, **QUIET)
    opened.select(
        lambda chosen: gr.update(choices=preset_choices(services, chosen)), preset, preset, **QUIET
    )
    opened.select(lambda: gr.update(choices=general_choices(services)), None, general, **QUIET)
    # The plan writes into the fields what it chose. So it listens to what a person enters and to what
    # fills the form, not to the fields' ``change``: that also follows what it writes, without end. Text
    # fields are the exception: it writes only their placeholders, and their ``input`` follows keys only,
    # neither what is pasted nor what is deleted.
    changes = [
        *(component.change for component in [*data, model, known, method]),
        *(f.change if isinstance(f, gr.Textbox) else f.input for f in fields.values()),
    ]
    planned = [*panel.outputs, tab.reading, *(fields[name] for name in automatic)]
    gr.on(changes, update_plan, tab.components, planned, **FOLLOW)
    for filling in filled:
        filling.then(update_plan, tab.components, planned, **FOLLOW)
    countable = [opened.select, model.change, known.change]
    counted = gr.on(countable, count_tokens, tab.components, None, **FOLLOW)
    counted.then(update_plan, tab.components, planned, **FOLLOW)
    driving = panel.drive.click(
        test_drive, tab.components, [panel.drive, panel.driven], concurrency_limit=1, **PRIVATE
    )
    driving.then(update_plan, tab.components, planned, **FOLLOW)
    return tab
