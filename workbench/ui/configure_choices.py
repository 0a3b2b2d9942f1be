"""Configure tab, the choices that matter most: what to start from, the model and the method, with words on each."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from workbench.compatibility import unavailable_methods
from workbench.config import STARTER_MODEL
from workbench.data.store import GENERAL
from workbench.errors import WorkbenchError
from workbench.hardware import free_disk_bytes
from workbench.models.catalogue import CatalogueEntry, catalogue
from workbench.models.sources import find_model
from workbench.presets import methods
from workbench.services import Services
from workbench.ui.models_view import ModelsView, build_models_view, gated_words
from workbench.ui.views import plain
from workbench.words import describe_bytes, describe_count

NO_PRESET = "defaults"
GROUPS = ("Recommended", "Relatives of LoRA", "Whole model", "Small additions")


@dataclass(frozen=True)
class Choices:
    """The components; ``models`` shows what is known of the chosen model, and what is on this disk."""

    preset: gr.Dropdown
    model: gr.Dropdown
    model_help: gr.Markdown
    models: ModelsView
    method: gr.Dropdown
    method_help: gr.Markdown


def build_choices(services: Services, page: gr.Blocks) -> Choices:
    """Lay them out."""
    preset = gr.Dropdown(
        preset_choices(services),
        value=NO_PRESET,
        label="Start from",
        info="Fills in the settings below for a purpose; change anything afterwards.",
        elem_id="configure-preset",
    )
    model = gr.Dropdown(
        model_choices(services),
        value=STARTER_MODEL,
        label="Model",
        info="Choose one, or type the name of any chat model on huggingface.co, as owner/name, or on "
        "modelscope.cn, as modelscope:owner/name. The address of its page will do, too.",
        allow_custom_value=True,
        elem_id="configure-model",
    )
    model_help = gr.Markdown(
        describe_model_here(services, STARTER_MODEL),
        elem_classes="wb-help",
    )
    models = build_models_view(services, page, model)
    method = gr.Dropdown(
        method_choices(None, STARTER_MODEL),
        value="lora",
        label="Method",
        info="How the model's weights are changed. LoRA is right for almost everything.",
        elem_id="configure-method",
    )
    method_help = gr.Markdown(method_words("lora"), elem_classes="wb-help")
    return Choices(preset, model, model_help, models, method, method_help)


def method_choices(services: Services | None, model_id: str | None) -> list[tuple[str, str]]:
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
        (
            f"{m.label}: "
            + (f"not for this model. {reasons[name]}" if name in reasons else m.summary),
            name,
        )
        for name, m in offered
    ]


def general_choices(services: Services) -> list[tuple[str, str]]:
    """Return what general skills can be kept with."""
    own = [("The workbench's own questions", GENERAL)]
    return own + [(info.name, info.id) for info in services.datasets.uploads() if info.is_usable]


def preset_choices(services: Services, chosen: str = "") -> list[tuple[str, str]]:
    """Return what to start from: the recipes, the person's own presets, past runs; that which is chosen, too."""
    return [
        ("Defaults (fit most data)", NO_PRESET),
        *((point.label, point.id) for point in services.starting_points.all(chosen)),
    ]


def model_choices(services: Services) -> list[tuple[str, str]]:
    """Return the offered models, and before them the person's own."""
    own = [(f"{source.label} (yours)", source.id) for source in services.models.own_models()]
    return own + [(_searchable(entry), model_id) for model_id, entry in catalogue().items()]


def _searchable(entry: CatalogueEntry) -> str:
    """Return the line of a model in the list: what is typed there is looked for in all of it."""
    size = describe_bytes(entry.download_bytes)
    hardware = entry.hardware.removesuffix(".")
    return f"{entry.label} ({size}) · {entry.licence} · {entry.languages} · {hardware}"


def model_words(model_id: str, free_bytes: int | None = None, *, is_here: bool = False) -> str:
    """Say what a model is good for, what it costs to have, and how much room there is for it where it is not here."""
    entry = catalogue().get(model_id)
    if entry is None:
        return _words_of_another(model_id)
    free = f" (this disk has {describe_bytes(free_bytes)} free)" if free_bytes is not None else ""
    having = "on this computer" if is_here else f"to download{free}"
    words = (
        f"{plain(entry.summary)} {plain(entry.hardware)} {describe_count(entry.parameters)} weights; reads up to "
        f"{entry.context_tokens:,} tokens; {describe_bytes(entry.download_bytes)} {having}; "
        f"licence {plain(entry.licence)}; speaks {plain(entry.languages)}."
    )
    return words + (gated_words(entry.repository) if entry.gated else "")


def describe_model_here(services: Services, model_id: str) -> str:
    """Return the ``model_words`` for this computer."""
    is_here = model_id in catalogue() and services.models.is_here(find_model(model_id))
    return model_words(model_id, free_disk_bytes(services.settings.home_dir), is_here=is_here)


def _words_of_another(model_id: str) -> str:
    """Say where a model comes from that is not among the offered ones."""
    try:
        source = find_model(model_id)
    except WorkbenchError:
        return ""  # the plan says what is wrong with it
    if source.kind == "local":
        return "It is one of yours, from local-models in the workspace."
    hub = "ModelScope" if source.kind == "modelscope" else "the Hugging Face Hub"
    squeezed = (
        " GGUF weights are squeezed; training starts from what is left of them."
        if source.file
        else ""
    )
    return (
        f"It is downloaded from {hub} when training starts. Its size and licence: below, under "
        f"*Models on this computer*.{squeezed}"
    )


def method_words(method_id: str) -> str:
    """Say when a method is right, and what it costs."""
    method = methods()[method_id]
    return f"**When:** {plain(method.when)} **Cost:** {plain(method.cost)}"
