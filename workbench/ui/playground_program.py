"""Playground tab, last part: how other programs ask the model."""

from __future__ import annotations

import gradio as gr

from workbench.chat import learned_model
from workbench.chat_server import SERVE_PORT, client_code
from workbench.services import Services
from workbench.ui.guard import FOLLOW

HELP = (
    "The command serves the model on this computer, as OpenAI's programs expect it, until you end it "
    "with Ctrl-C. It prints the key that goes in the place of the dots."
)


def build_program_panel(services: Services, run_choice: gr.Dropdown) -> None:
    """Lay it out and wire it."""
    with gr.Accordion("Use it from your own program", open=False, elem_id="playground-program"):
        gr.Markdown(HELP, elem_classes="wb-help")
        command = gr.Code("workbench serve latest", language="shell", label="In a terminal")
        url = f"http://127.0.0.1:{SERVE_PORT}/v1"
        code = gr.Code(
            client_code(url, "…"), language="python", label="In Python (pip install openai)"
        )

    def show(run_id: str | None) -> list[str]:
        model = learned_model(services.runs.get(run_id)) if run_id else "tuned"
        return [f"workbench serve {run_id or 'latest'}", client_code(url, "…", model)]

    run_choice.change(show, run_choice, [command, code], **FOLLOW)
