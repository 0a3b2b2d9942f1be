"""Put the tabs together and serve the page."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.config import STARTER_MODEL
from workbench.errors import WorkbenchError
from workbench.models.sources import find_model
from workbench.processes import share_memory_pools
from workbench.services import Services
from workbench.settings import Settings
from workbench.ui.configure_tab import build_configure_tab
from workbench.ui.data_tab import build_data_tab
from workbench.ui.data_tokens import build_tokens_view
from workbench.ui.duplicating import wire_duplicating
from workbench.ui.evaluate_tab import build_evaluate_tab
from workbench.ui.guard import QUIET
from workbench.ui.keep_posted import TITLE
from workbench.ui.playground_tab import build_playground_tab
from workbench.ui.run_choices import runs_to_ask
from workbench.ui.runs_tab import build_runs_tab
from workbench.ui.train_tab import build_train_tab
from workbench.ui.views import fetch_banner

BANNER_SECONDS = 1.0
USER = "workbench"
# Whatever a model or a file brings, a picture in Markdown say, the browser asks nobody but this server.
ONLY_FROM_HERE = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'self\' data: blob: '
    "'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'\">"
)
# Of so many opened pages gradio keeps what they show, 4 MB each, also of those that were closed; by default 10,000. The one
# that was used least recently goes first; should its page still be open, it begins anew.
PAGES_REMEMBERED = 16
UPLOADS_KEPT = (3600, 86400)  # seconds: how often gradio's copies of uploads are cleared, how old


def build_app(services: Services) -> gr.Blocks:
    """Build the page."""
    starter = find_model(STARTER_MODEL)
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=UPLOADS_KEPT) as page:
        title = gr.Markdown(
            f"# {TITLE}\nTeach a small chat model something new: choose data, press Start, talk to it.",
            elem_classes="wb-title",
        )
        banner = gr.HTML(elem_id="fetch-banner", visible=False)
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("1. Data", id="data", render_children=True) as opened:
                data = build_data_tab(services, page, opened)
            with gr.Tab("2. Configure", id="configure", render_children=True) as opened:
                configure = build_configure_tab(services, page, opened, data.components)
            with data.model_view:
                build_tokens_view(services, page, data.rows, configure)
            with gr.Tab("3. Train", id="train", render_children=True) as opened:
                train = build_train_tab(services, page, opened, configure)
            with gr.Tab("4. Playground", id="playground", render_children=True) as playground:
                build_playground_tab(services, page, playground)
            with gr.Tab("5. Evaluate & export", id="evaluate", render_children=True) as evaluate:
                evaluated_run = build_evaluate_tab(services, page, evaluate)
            with gr.Tab("6. Runs", id="runs", render_children=True) as opened:
                runs = build_runs_tab(services, opened)
        banner_timer = gr.Timer(BANNER_SECONDS)

        def open_evaluation(run_id: str) -> list[Any]:
            choices = runs_to_ask(services)
            return [gr.Tabs(selected="evaluate"), gr.Dropdown(choices, value=run_id)]

        def show_banner() -> Any:
            here = services.models.is_here(starter)
            text = fetch_banner(starter.label, services.models.progress(starter), here)
            return gr.HTML(text, visible=bool(text)), gr.Timer(active=not here)

        train.open_evaluation.click(
            open_evaluation, train.run_choice, [tabs, evaluated_run], **QUIET
        )
        wire_duplicating(services, runs.duplicate, runs.chosen, tabs, data.components, configure)
        banner_timer.tick(show_banner, None, [banner, banner_timer], **QUIET)
    _report_progress_to(title, page)
    return page


def _report_progress_to(component: gr.blocks.Block, page: gr.Blocks) -> None:
    """Let gradio tell one component, which shows nothing of it, how far each listener is.

    By default it tells every output of every listener that ever ran, at each event, and searches the page for each:
    a second of a browser's time once all tabs were open (gradio 6.31, ``update_loading_stati_state``). We say in
    words of our own what takes long.
    """
    for function in page.fns.values():
        function.show_progress_on = [component]


def serve(services: Services, *, open_browser: bool) -> None:
    """Fetch the starter model in the background and serve the page until Ctrl-C.

    Raises:
        WorkbenchError: The address is not safe, or the port is taken.
    """
    settings = services.settings
    settings.check_address_is_safe()
    _check_port(settings)
    share_memory_pools()
    services.models.fetch_in_background(find_model(STARTER_MODEL))
    services.look_after_runs()
    shown_host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    print(f"{TITLE}: http://{shown_host}:{settings.port}  (Ctrl-C ends it; training goes on)")
    print(f"Your files are in {settings.home_dir}", flush=True)
    try:
        build_app(services).queue().launch(
            server_name=settings.host,
            server_port=settings.port,
            auth=(USER, settings.password) if settings.password else None,
            auth_message=f"The user name is {USER}; the password is the one in WORKBENCH_PASSWORD.",
            allowed_paths=[str(settings.exports_dir)],  # what was exported, to be downloaded
            max_file_size=settings.upload_limit_bytes,
            inbrowser=open_browser,
            quiet=True,
            share=False,
            show_error=False,
            enable_monitoring=False,
            run_history=False,
            state_session_capacity=PAGES_REMEMBERED,
            footer_links=[],
            ssr_mode=False,
            mcp_server=False,
            head=ONLY_FROM_HERE,
            theme=gr.themes.Default(
                primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["monospace"]
            ).set(  # the default grey of help texts is too pale to read
                body_text_color_subdued="#5b6472",
                body_text_color_subdued_dark="#a3acba",
                block_info_text_color="#5b6472",
                block_info_text_color_dark="#a3acba",
            ),
            css_paths=Path(__file__).with_name("style.css"),
        )
    finally:
        services.chat.close()
        services.tokenizer.close()


def _check_port(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        if sys.platform != "win32":  # there it would let two programs share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise WorkbenchError(
                f"Port {settings.port} on {settings.host} cannot be used: {error.strerror}.",
                "Is the workbench open already? Otherwise choose another port, for example "
                f"--port {settings.port + 1}.",
            ) from error
