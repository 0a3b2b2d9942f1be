"""Configure tab: model, method and settings on the left; on the right the plan, always up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.config import STARTER_MODEL, build_config
from workbench.errors import WorkbenchError
from workbench.models.catalogue import catalogue, find_model
from workbench.plan import Plan
from workbench.presets import find_recipe, methods, recipes
from workbench.services import DataChoice, Services
from workbench.ui.data_mix import read_choice
from workbench.ui.form import (
    automatic_fields,
    automatic_text,
    build_field,
    field_names,
    form_values,
    read_form,
)
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.views import plain, plan_details
from workbench.words import describe_bytes

NO_PRESET = "defaults"


@dataclass(frozen=True)
class ConfigureTab:
    """What other tabs need: the components that decide what will happen, and how to read their values.

    Attributes:
        names: The settings.
        settings: Their components, in the same order.
        components: Those of the data, then those of the settings.
    """

    names: list[str]
    settings: list[Any]
    components: list[Any]

    def read(self, services: Services, values: Sequence[Any]) -> tuple[Plan, DataChoice]:
        """Work out the plan for what the components say.

        Raises:
            WorkbenchError: A setting or a dataset cannot be used.
        """
        count = len(self.components) - len(self.settings)
        config = services.configure(None, read_form(self.names, values[count:]))
        data = read_choice(services, values[:count])
        return services.plan(config, data), data

    def component(self, name: str) -> Any:
        """Return the component of one setting."""
        return self.settings[self.names.index(name)]


def build_configure_tab(
    services: Services, page: gr.Blocks, opened: gr.Tab, data: list[Any]
) -> ConfigureTab:
    """Lay the tab out and wire it."""
    offered_methods = methods()
    with gr.Row():
        with gr.Column(scale=5, min_width=420):
            preset = gr.Dropdown(
                [("Defaults (fit most data)", NO_PRESET), *_preset_choices()],
                value=NO_PRESET,
                label="Start from",
                info="Fills in the settings below for a purpose; change anything afterwards.",
                elem_id="configure-preset",
            )
            model = gr.Dropdown(
                _model_choices(),
                value=STARTER_MODEL,
                label="Model",
                info="Choose one, or type the name of any chat model on huggingface.co, as owner/name.",
                allow_custom_value=True,
                elem_id="configure-model",
            )
            model_help = gr.Markdown(_model_words(STARTER_MODEL), elem_classes="wb-help")
            method = gr.Radio(
                [(preset.label, name) for name, preset in offered_methods.items()],
                value="lora",
                label="Method",
                info="How the model's weights are changed.",
                elem_id="configure-method",
            )
            method_help = gr.Markdown(_method_words("lora"), elem_classes="wb-help")
            fields: dict[str, Any] = {}
            with gr.Row():
                for name in field_names("basic"):
                    fields[name] = build_field(name)
            with gr.Accordion("Advanced", open=False), gr.Row():
                for name in field_names("advanced"):
                    fields[name] = build_field(name)
        with gr.Column(scale=3, min_width=280, elem_classes="wb-plan"):
            plan_view = gr.Markdown(elem_id="configure-plan")

    names = ["model", "method", *fields]
    settings = [model, method, *fields.values()]
    tab = ConfigureTab(names, settings, [*data, *settings])

    automatic = automatic_fields(list(fields))

    def update_plan(*values: Any) -> list[Any]:
        try:
            plan, _ = tab.read(services, values)
        except WorkbenchError as error:
            return [
                f"### This needs a change\n\n{plain(str(error))}",
                *[gr.skip()] * len(automatic),
            ]
        placeholders = [gr.update(placeholder=automatic_text(n, plan.config)) for n in automatic]
        return [plan_details(plan, offered_methods[plan.config.method]), *placeholders]

    @user_errors
    def count_tokens(*values: Any) -> None:
        """Count what the plan estimates until then: how long the examples are."""
        try:
            plan, chosen = tab.read(services, values)
        except WorkbenchError:
            return  # the plan says it
        for info, _ in chosen.parts:
            services.count_tokens(info, find_model(plan.config.model))

    @user_errors
    def apply_preset(name: str) -> list[Any]:
        config = build_config({} if name == NO_PRESET else find_recipe(name).config)
        return form_values(config, names)

    def describe_model(model_id: str | None) -> str:
        return _model_words(model_id or "")

    def describe_method(method_id: str) -> list[Any]:
        config = build_config({"method": method_id})
        return [
            _method_words(method_id),
            *(gr.update(visible=config.uses(name)) for name in fields),
        ]

    preset.change(apply_preset, preset, settings, **PRIVATE)
    model.change(describe_model, model, model_help, **QUIET)
    method.change(describe_method, method, [method_help, *fields.values()], **QUIET)
    changes = [page.load, *(component.change for component in tab.components)]
    planned = [plan_view, *(fields[name] for name in automatic)]
    gr.on(changes, update_plan, tab.components, planned, **FOLLOW)
    counted = gr.on([opened.select, model.change], count_tokens, tab.components, None, **FOLLOW)
    counted.then(update_plan, tab.components, planned, **FOLLOW)
    return tab


def _preset_choices() -> list[tuple[str, str]]:
    return [(f"{recipe.label}: {recipe.summary}", name) for name, recipe in recipes().items()]


def _model_choices() -> list[tuple[str, str]]:
    return [(entry.label, model_id) for model_id, entry in catalogue().items()]


def _model_words(model_id: str) -> str:
    entry = catalogue().get(model_id)
    if entry is None:
        return "It is downloaded from the Hugging Face Hub when training starts."
    size = describe_bytes(entry.download_bytes)
    return f"{plain(entry.summary)} {size} to download, licence {plain(entry.licence)}."


def _method_words(method_id: str) -> str:
    method = methods()[method_id]
    return f"{plain(method.summary)} **When:** {plain(method.when)} **Cost:** {plain(method.cost)}"
