"""Configure tab: model, method and settings; beside them the plan, always up to date."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.compatibility import unavailable_methods
from workbench.config import STARTER_MODEL, TrainingConfig, build_config
from workbench.data.store import GENERAL
from workbench.errors import WorkbenchError
from workbench.models.catalogue import catalogue, find_model
from workbench.plan import Plan
from workbench.presets import methods
from workbench.services import DataChoice, Services
from workbench.ui.data_mix import read_choice
from workbench.ui.form import (
    automatic_fields,
    automatic_update,
    build_field,
    field_names,
    form_values,
    is_switch,
    read_form,
)
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.models_view import build_models_view
from workbench.ui.plan_panel import build_plan_panel, drive
from workbench.ui.views import plain
from workbench.words import describe_bytes

NO_PRESET = "defaults"
AUTOMATIC_WORDS = (
    "Fields that say *auto* are chosen for you; the plan says why. Empty a field to go back."
)
GATED_WORDS = (
    " **It is gated:** open huggingface.co/{}, accept the licence, make an access token in your "
    "account's settings there, and type it in below, under *Models on this computer*."
)
GROUPS = ("Recommended", "Relatives of LoRA", "Whole model", "Small additions")


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
    """

    names: list[str]
    settings: list[Any]
    components: list[Any]
    reading: gr.State

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
            preset, model, model_help, here, method, method_help = _build_choices(services, page)
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
    tab = ConfigureTab(names, settings, [*data, *settings], gr.State())
    automatic = automatic_fields(list(fields))
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

    @user_errors
    def apply_preset(name: str) -> list[Any]:
        config = build_config({} if name == NO_PRESET else services.starting_points.settings(name))
        return form_values(config, names)

    def describe_model(model_id: str | None) -> list[Any]:
        return [
            _model_words(model_id or ""),
            gr.update(choices=_method_choices(services, model_id)),
        ]

    def describe_method(method_id: str) -> list[Any]:
        config = build_config({"method": method_id})
        return [
            _method_words(method_id),
            *(gr.update(visible=config.uses(name)) for name in fields),
        ]

    def apply_remedy(remedies: list[dict[str, Any]], number: int) -> list[Any]:
        changes = remedies[number]
        return [changes.get(name, gr.skip()) for name in names]

    @user_errors
    def save_preset(name: str, *values: Any) -> list[Any]:
        tab.config(services, values)  # say what is wrong with it, before it is kept
        saved = services.starting_points.save(name, read_form(names, values[-len(names) :]))
        return [gr.Dropdown(_preset_choices(services), value=saved.id), ""]

    @user_errors
    def delete_preset(point_id: str) -> Any:
        services.starting_points.delete(point_id)
        return gr.Dropdown(_preset_choices(services), value=NO_PRESET)

    @user_errors
    def test_drive(*values: Any) -> Iterator[list[Any]]:
        _, chosen = tab.read(services, values)
        yield from drive(services, tab.config(services, values), chosen)

    filled = [preset.change(apply_preset, preset, settings, **PRIVATE)]
    model.change(describe_model, model, [model_help, method], **QUIET)
    method.change(describe_method, method, [method_help, *fields.values()], **QUIET)
    emptied = [fields[name] for name in automatic]
    filled.append(reset.click(lambda: [""] * len(automatic), None, emptied, **PRIVATE))
    for number, button in enumerate(panel.buttons):
        apply = functools.partial(apply_remedy, number=number)
        filled.append(button.click(apply, panel.remedies, settings, **PRIVATE))
    save.click(save_preset, [label, *tab.components], [preset, label], **PRIVATE)
    delete.click(delete_preset, preset, preset, **PRIVATE)
    opened.select(lambda: gr.update(choices=_preset_choices(services)), None, preset, **QUIET)
    opened.select(lambda: gr.update(choices=_general_choices(services)), None, general, **QUIET)
    # The plan writes into the fields what it chose. So it listens to what a person enters and to what
    # fills the form, not to the fields' ``change``: that also follows what it writes, without end.
    changes = [
        page.load,
        *(component.change for component in [*data, model, here, method]),
        *(field.input for field in fields.values()),
    ]
    planned = [*panel.outputs, tab.reading, *(fields[name] for name in automatic)]
    gr.on(changes, update_plan, tab.components, planned, **FOLLOW)
    for filling in filled:
        filling.then(update_plan, tab.components, planned, **FOLLOW)
    counted = gr.on([opened.select, model.change], count_tokens, tab.components, None, **FOLLOW)
    counted.then(update_plan, tab.components, planned, **FOLLOW)
    driving = panel.drive.click(
        test_drive, tab.components, [panel.drive, panel.driven], concurrency_limit=1, **PRIVATE
    )
    driving.then(update_plan, tab.components, planned, **FOLLOW)
    return tab


def _build_choices(services: Services, page: gr.Blocks) -> tuple[Any, ...]:
    preset = gr.Dropdown(
        _preset_choices(services),
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
    here = build_models_view(services, page, model)
    method = gr.Dropdown(
        _method_choices(None, STARTER_MODEL),
        value="lora",
        label="Method",
        info="How the model's weights are changed. LoRA is right for almost everything.",
        elem_id="configure-method",
    )
    method_help = gr.Markdown(_method_words("lora"), elem_classes="wb-help")
    return preset, model, model_help, here, method, method_help


def _method_choices(services: Services | None, model_id: str | None) -> list[tuple[str, str]]:
    """Return the methods by group; those that cannot train the model say so, and come last."""
    reasons: dict[str, str] = {}
    if services:
        try:
            reasons = unavailable_methods(services.models.facts(find_model(model_id or "")))
        except WorkbenchError:
            reasons = {}  # the plan says what is wrong with the model
    offered = sorted(
        methods().items(), key=lambda item: (item[0] in reasons, GROUPS.index(item[1].group))
    )
    return [
        (f"{m.label} (not for this model)" if name in reasons else f"{m.label}: {m.summary}", name)
        for name, m in offered
    ]


def _general_choices(services: Services) -> list[tuple[str, str]]:
    own = [("The workbench's own questions", GENERAL)]
    return own + [(info.name, info.id) for info in services.datasets.uploads() if info.is_usable]


def _preset_choices(services: Services) -> list[tuple[str, str]]:
    return [
        ("Defaults (fit most data)", NO_PRESET),
        *((point.label, point.id) for point in services.starting_points.all()),
    ]


def _model_choices() -> list[tuple[str, str]]:
    return [
        (f"{entry.label} ({describe_bytes(entry.download_bytes)})", model_id)
        for model_id, entry in catalogue().items()
    ]


def _model_words(model_id: str) -> str:
    entry = catalogue().get(model_id)
    if entry is None:
        return (
            "It is downloaded from the Hugging Face Hub when training starts. Its size and licence: "
            "below, under *Models on this computer*."
        )
    words = (
        f"{plain(entry.summary)} {plain(entry.hardware)} {describe_bytes(entry.download_bytes)} to download; "
        f"licence {plain(entry.licence)}; speaks {plain(entry.languages)}."
    )
    return words + (GATED_WORDS.format(plain(entry.repository)) if entry.gated else "")


def _method_words(method_id: str) -> str:
    method = methods()[method_id]
    return f"**When:** {plain(method.when)} **Cost:** {plain(method.cost)}"
