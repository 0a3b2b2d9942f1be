"""Keep what the form says while the page is loaded again; another tab, or another day, begins with the defaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from workbench.errors import WorkbenchError
from workbench.services import Services
from workbench.ui.configure_choices import NO_PRESET, preset_choices
from workbench.ui.guard import PRIVATE, QUIET

READ = "() => sessionStorage.getItem('workbench-settings') || ''"
# Not before they were read: what the form says first are the defaults.
WRITE = """
(...values) => {
    if (!window.workbenchRemembers) return;
    const said = Object.fromEntries(NAMES.map((name, place) => [name, values[place]]));
    sessionStorage.setItem('workbench-settings', JSON.stringify(said));
}
"""
BEGIN = "() => { window.workbenchRemembers = true; }"


def build_remembering(
    services: Services,
    page: gr.Blocks,
    preset: gr.Dropdown,
    preset_before: gr.State,
    names: Sequence[str],
    settings: Sequence[Any],
) -> gr.events.Dependency:
    """Wire it, and return the listener that has filled the form when the page is there.

    Args:
        services: Say whether the settings can still be used.
        page: The page.
        preset: What the person started from.
        preset_before: Is told, too, so that its settings are not filled in over what was changed since.
        names: The settings.
        settings: Their components, in the same order.
    """
    kept = gr.Textbox(visible="hidden")

    def restore(said: str) -> list[Any]:
        chosen, values = read_kept(services, said)
        if not values:
            return [gr.skip()] * (2 + len(names))
        shown = gr.Dropdown(preset_choices(services, chosen), value=chosen)
        return [shown, chosen, *(values.get(name, gr.skip()) for name in names)]

    filled = page.load(restore, kept, [preset, preset_before, *settings], js=READ, **QUIET)
    filled.then(None, None, None, js=BEGIN)
    everything = [preset, *settings]
    write = WRITE.replace("NAMES", json.dumps(["preset", *names]))
    gr.on([part.change for part in everything], None, everything, None, js=write, **PRIVATE)
    return filled


def read_kept(services: Services, said: str) -> tuple[str, dict[str, Any]]:
    """Return the starting point and the settings that a page kept; no settings where they cannot be used any more."""
    try:
        values = json.loads(said or "{}")
        chosen = str(values.pop("preset", NO_PRESET))
        services.configure(None, values)
    except (ValueError, TypeError, AttributeError, WorkbenchError):
        return NO_PRESET, {}
    known = [point for _, point in preset_choices(services, chosen)]
    return (chosen if chosen in known else NO_PRESET), values
