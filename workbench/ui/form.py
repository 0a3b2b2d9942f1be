"""From the schema to form fields and back. A new setting appears here by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from workbench.config import (
    TrainingConfig,
    build_config,
    choices,
    field_extra,
    is_automatic_allowed,
    setting_fields,
)
from workbench.data.store import GENERAL

# These two have richer widgets of their own in the Configure tab.
SEPARATE = frozenset({"model", "method"})


def field_names(group: str | None = None) -> list[str]:
    """Return the settings shown as plain fields, in the order of the schema."""
    return [name for name in setting_fields(group) if name not in SEPARATE]


def build_field(name: str) -> gr.components.Component:
    """Build the form field of one setting; an empty one means automatic."""
    field = TrainingConfig.model_fields[name]
    unit = field_extra(name)["unit"]
    common: dict[str, Any] = {
        "label": f"{field.title} ({unit})" if unit else str(field.title),
        "info": field.description,
        "value": field.default,
        "elem_id": f"configure-{name.replace('_', '-')}",
        "min_width": 200,
        "visible": TrainingConfig().uses(name),
    }
    options = choices(name)
    if options and is_automatic_allowed(name):
        return gr.Dropdown([(automatic_text(name, None), ""), *options], **common | {"value": ""})
    if options:
        return gr.Dropdown(options, **common)
    if is_switch(name):
        return gr.Checkbox(elem_classes="wb-switch", **common)
    if name == "general_data":  # the Configure tab lists the person's own datasets, too
        return gr.Dropdown([("The workbench's own questions", GENERAL)], **common)
    if field.annotation is str:
        return gr.Textbox(max_lines=1, **common)
    if is_automatic_allowed(name):  # a number field cannot be empty, a text field can
        return gr.Textbox(max_lines=1, placeholder=automatic_text(name, None), **common)
    return gr.Number(**common)


def is_switch(name: str) -> bool:
    """Say whether a setting is on or off."""
    return TrainingConfig.model_fields[name].annotation is bool


def automatic_fields(names: Sequence[str]) -> list[str]:
    """Return those of ``names`` that may stay empty."""
    return [name for name in names if is_automatic_allowed(name)]


def automatic_text(name: str, chosen: TrainingConfig | None) -> str:
    """Say what stands in an empty field: that it is automatic, and what was chosen."""
    if name == "max_steps":
        return "no limit"
    value = getattr(chosen, name) if chosen else None
    if value is None:
        return "auto"
    return f"auto: {value if isinstance(value, str) else format(value, 'g')}"


def automatic_update(name: str, chosen: TrainingConfig) -> Any:
    """Return the update that makes a field say what was chosen automatically."""
    text = automatic_text(name, chosen)
    if choices(name):
        return gr.update(choices=[(text, ""), *choices(name)])
    return gr.update(placeholder=text)


def read_form(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    """Return the settings a person entered; numbers come back whole where they are whole."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in zip(names, values, strict=True)
    }


def preset_values(settings: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return what the fields show for a starting point: its settings, else the defaults.

    Model and method stay as they were chosen where it does not name them.
    """
    config = build_config(settings)
    return [
        gr.skip()
        if name in SEPARATE and name not in settings
        else _shown(name, getattr(config, name))
        for name in names
    ]


def instead_of(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usual model and method where those of now are of the earlier starting point; a person chose the others."""
    return {
        name: getattr(build_config(), name) for name in SEPARATE if earlier.get(name) == now[name]
    }


def _shown(name: str, value: Any) -> Any:
    if value is None:
        return "" if choices(name) else None
    if is_automatic_allowed(name) and isinstance(value, float):  # a text field
        return f"{value:g}"
    return value
