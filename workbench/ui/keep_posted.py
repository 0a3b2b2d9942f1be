"""Keep the person posted: progress in the title of the browser's tab, and a notification at the end."""

from __future__ import annotations

import json
from dataclasses import dataclass

import gradio as gr

from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run

TITLE = "Fine-tuning workbench"
ASK = """
async (wanted) => wanted && 'Notification' in window && await Notification.requestPermission() === 'granted'
"""
# What was told last stays with the page, so that an end is told once, and only by a page that saw the run train.
TELL = """
(news, wanted) => {
    const now = JSON.parse(news || '{}'), before = window.workbenchNews || {};
    const ended = before.id === now.id && before.active && !now.active;
    if (now.active || ended) document.title = now.title;
    else if (before.id !== now.id) document.title = TITLE;
    if (ended && wanted && 'Notification' in window && Notification.permission === 'granted')
        new Notification(TITLE, {body: now.title});
    window.workbenchNews = now;
}
""".replace("TITLE", json.dumps(TITLE))


@dataclass(frozen=True)
class KeepPosted:
    """Components that carry the news to the browser: ``news`` is filled by whoever looks at the run."""

    news: gr.Textbox
    wanted: gr.Checkbox

    def after(self, listener: gr.events.Dependency) -> None:
        """Tell the news when a listener has filled them."""
        listener.then(None, [self.news, self.wanted], None, js=TELL)


def build_keep_posted() -> KeepPosted:
    """Lay it out and wire it."""
    wanted = gr.Checkbox(
        label="Tell me when it has ended",
        info="A notification of your browser, which asks you once whether it may. Leave this page open.",
        elem_id="train-notify",
    )
    wanted.input(None, wanted, wanted, js=ASK)
    return KeepPosted(gr.Textbox(visible="hidden"), wanted)


def news_of(run: Run | None, snapshot: RunSnapshot | None) -> str:
    """Return what the browser is told, as JSON: which run, whether it is active, and a title."""
    if run is None or snapshot is None:
        return json.dumps({"id": "", "active": False, "title": TITLE})
    return json.dumps(
        {"id": run.id, "active": snapshot.is_active, "title": f"{_how_far(snapshot)} · {run.name}"}
    )


def _how_far(snapshot: RunSnapshot) -> str:
    if snapshot.state == "running" and snapshot.step and snapshot.total_steps:
        return f"{snapshot.step / snapshot.total_steps:.0%}"
    return snapshot.state.capitalize()
