"""Configure tab, below the model: what it costs to download, the download itself, and what is on this disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.deleting import cancel_download, delete_model
from workbench.errors import WorkbenchError
from workbench.hardware import free_disk_bytes
from workbench.models.facts import ModelFacts
from workbench.models.sources import ModelSource, find_model
from workbench.services import Services
from workbench.ui.guard import FOLLOW, PRIVATE, user_errors
from workbench.ui.views import fetch_banner, plain
from workbench.words import describe_bytes, describe_count

TICK_SECONDS = 1.0


@dataclass(frozen=True)
class ModelsView:
    """What others need of it.

    Attributes:
        known: What is known of the chosen model: ``unknown``, ``looked up`` at its hub, or ``here``.
        token: The access token that was typed.
    """

    known: gr.State
    token: gr.Textbox


def build_models_view(services: Services, page: gr.Blocks, model: gr.Dropdown) -> ModelsView:
    """Lay it out and wire it."""
    with gr.Accordion("Models on this computer", open=False, elem_id="models") as accordion:
        note = gr.Markdown(elem_id="models-note")
        gr.Markdown(
            "You have a model already? Put its folder, or its `.gguf` file, into "
            f"`{services.settings.local_models_dir}`; it is in the list above when this page is loaded again.",
            elem_classes="wb-help",
        )
        bar = gr.HTML(visible=False, elem_id="models-progress")
        token = gr.Textbox(
            "",
            label="Access token",
            info="Only where a model's owner wants its licence accepted first. It is used to download the model and never saved.",
            type="password",
            max_lines=1,
            elem_id="models-token",
        )
        with gr.Row():
            check = gr.Button("Check size and licence", size="sm", elem_id="models-check")
            download = gr.Button("Download", size="sm", elem_id="models-download")
            cancel = gr.Button("Cancel", size="sm", visible=False, elem_id="models-cancel")
        with gr.Row(equal_height=True):
            stored = gr.Dropdown(label="On this disk", scale=3, elem_id="models-stored")
            delete = gr.Button("Delete", size="sm", scale=0, min_width=110, elem_id="models-delete")
        timer = gr.Timer(TICK_SECONDS, active=False)
    known = gr.State("unknown")

    def show(model_id: str | None) -> list[Any]:
        """Return what everything shows for the chosen model now."""
        source = _source(model_id)
        progress = services.models.progress(source) if source else None
        is_here = bool(source and services.models.is_here(source))
        is_active = bool(not is_here and progress and progress.is_active)
        banner = fetch_banner(source.label, progress, is_here) if source else ""
        return [
            what_is_known(services, model_id),
            gr.skip() if is_active else describe(model_id),  # the size that was asked for stays
            gr.HTML(banner, visible=bool(banner)),
            gr.Button(interactive=bool(source) and not is_here and not is_active),
            gr.Button(visible=is_active and source is not None and source.is_downloaded),
            gr.Dropdown(choices=_stored_choices(services)),
            gr.Timer(active=is_active),
        ]

    def describe(model_id: str | None) -> str:
        source = _source(model_id)
        if source is None:
            return "Choose a model above first."
        if services.models.is_here(source):
            return f"{plain(source.label)} is on this computer."
        if source.kind == "local":
            return f"{plain(source.label)} is converted once, when training starts; or do it here."
        return f"{plain(source.label)} is not on this computer yet. Training downloads it; or do it here."

    def open_for_another(model_id: str | None) -> Any:
        """Show the size and licence to ask for, where a model was typed that is not here."""
        source = _source(model_id)
        if (
            source is None
            or source.entry
            or not source.is_downloaded
            or services.models.is_here(source)
        ):
            return gr.skip()
        return gr.Accordion(open=True)

    @user_errors
    def check_model(model_id: str, typed: str) -> Iterator[list[Any]]:
        source = find_model(model_id)
        if not source.is_downloaded:
            yield [describe(model_id), gr.skip()]
            return
        where = "ModelScope" if source.kind == "modelscope" else "the Hugging Face Hub"
        yield [f"Asking {where} about {plain(source.label)} …", gr.skip()]
        try:
            found = services.models.look_up(source, typed.strip())
        except WorkbenchError as error:
            yield [plain(str(error)), gr.skip()]
            return
        words = (
            f"{plain(source.label)}: {describe_bytes(found.download_bytes)} to download, "
            f"{describe_bytes(free_disk_bytes(services.settings.home_dir))} free on this disk; {_size_words(services.models.facts(source))}"
            f"licence: {plain(found.licence) if found.licence else 'not given, ask its owner before you use it'}."
        )
        words += gated_words(source.location) if found.gated else ""
        yield [words, gr.skip() if services.models.is_here(source) else "looked up"]

    @user_errors
    def start_download(model_id: str, typed: str) -> None:
        services.models.fetch_in_background(find_model(model_id), typed)

    @user_errors
    def stop_download(model_id: str) -> None:
        cancel_download(services, find_model(model_id))

    @user_errors
    def remove(stored_id: str | None) -> Any:
        if not stored_id:
            raise WorkbenchError("No model is chosen.", "Choose one of those on this disk.")
        delete_model(services, find_model(stored_id))
        return gr.Dropdown(value=None)

    shown = [known, note, bar, download, cancel, stored, timer]
    gr.on([page.load, model.change, timer.tick], show, model, shown, **FOLLOW)
    model.change(open_for_another, model, accordion, **FOLLOW)
    check.click(check_model, [model, token], [note, known], **PRIVATE)
    started = download.click(start_download, [model, token], None, **PRIVATE)
    started.then(show, model, shown, **FOLLOW)
    cancel.click(stop_download, model, None, **PRIVATE)
    deleted = delete.click(remove, stored, stored, **PRIVATE)
    deleted.then(show, model, shown, **FOLLOW)
    return ModelsView(known, token)


def what_is_known(services: Services, model_id: str | None) -> str:
    """Return what is known of a model, as in ``ModelsView``."""
    source = _source(model_id)
    if source is None:
        return "unknown"
    if services.models.is_here(source):
        return "here"
    return "looked up" if services.models.is_known(source) else "unknown"


def gated_words(repository: str) -> str:
    """Say what to do before a gated model of the Hugging Face Hub can be downloaded, as Markdown."""
    return (
        f" **It is gated:** open [huggingface.co/{plain(repository)}](https://huggingface.co/{repository}), accept the "
        "licence, make an access token in your account's settings there, and type it in below, under *Access token* "
        "in *Models on this computer*."
    )


def _size_words(facts: ModelFacts) -> str:
    words = f"{describe_count(facts.parameters)} weights; " if facts.parameters else ""
    return words + (
        f"reads up to {facts.context_tokens:,} tokens; " if facts.context_tokens else ""
    )


def _source(model_id: str | None) -> ModelSource | None:
    try:
        return find_model(model_id or "")
    except WorkbenchError:  # half typed; the plan says what is wrong with it
        return None


def _stored_choices(services: Services) -> list[tuple[str, str]]:
    return [
        (
            f"{model.source.label}, {describe_bytes(model.size_bytes)}"
            + ("" if model.is_whole else " (not whole)"),
            model.source.id,
        )
        for model in services.models.installed()
    ]
