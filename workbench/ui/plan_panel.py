"""The plan beside the form: what will happen, what it needs, what would make it fit, and a test drive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from workbench.config import TrainingConfig
from workbench.equivalent import as_command, as_yaml
from workbench.errors import WorkbenchError
from workbench.plan import Plan
from workbench.remedies import Remedy
from workbench.services import DataChoice, Services
from workbench.ui.views import plain, plan_choices, plan_details, plan_needs

MOST_REMEDIES = 4
DRIVING = (
    "Driving: loading the model and doing two real steps on the longest examples. A minute or two …"
)


@dataclass(frozen=True)
class PlanPanel:
    """The components of the plan, and what they show.

    Attributes:
        details: Steps, time and reasons.
        choices: Why everything else has the value that was chosen.
        needs: Memory and disk.
        buttons: One for each change that would make it fit.
        remedies: The changes behind the buttons, as ``gr.State``.
        drive: The button of the test drive.
        driven: How the test drive goes, in words.
        command: The same run from the command line.
        yaml: Its settings.
    """

    details: gr.Markdown
    choices: gr.Markdown
    needs: gr.HTML
    buttons: list[gr.Button]
    remedies: gr.State
    drive: gr.Button
    driven: gr.Markdown
    command: gr.Code
    yaml: gr.Code

    @property
    def outputs(self) -> list[Any]:
        """What ``show`` returns values for."""
        return [
            self.details,
            self.choices,
            self.needs,
            self.remedies,
            *self.buttons,
            self.drive,
            self.command,
            self.yaml,
        ]

    def show(self, plan: Plan, data: DataChoice, remedies: Sequence[Remedy]) -> list[Any]:
        """Return what the components show for a plan."""
        labels = [remedy.label for remedy in remedies[:MOST_REMEDIES]]
        missing = MOST_REMEDIES - len(labels)
        return [
            plan_details(plan),
            plan_choices(plan),
            plan_needs(plan),
            [dict(remedy.changes) for remedy in remedies],
            *(gr.Button(label, visible=True) for label in labels),
            *[gr.Button(visible=False)] * missing,
            gr.Button(interactive=True),
            as_command(plan, data),
            as_yaml(plan),
        ]

    def show_problem(self, error: WorkbenchError) -> list[Any]:
        """Return what the components show when there is no plan."""
        return [
            f"### This needs a change\n\n{plain(str(error))}",
            "",
            "",
            [],
            *[gr.Button(visible=False)] * MOST_REMEDIES,
            gr.Button(interactive=False),
            "",
            "",
        ]


def build_plan_panel() -> PlanPanel:
    """Lay the panel out."""
    details = gr.Markdown(elem_id="configure-plan")
    needs = gr.HTML(elem_id="configure-needs")
    buttons = [
        gr.Button(visible=False, size="sm", elem_id=f"configure-remedy-{number}")
        for number in range(MOST_REMEDIES)
    ]
    drive = gr.Button("Test drive: measure it", size="sm", elem_id="configure-drive")
    driven = gr.Markdown(elem_id="configure-driven", elem_classes="wb-help")
    with gr.Accordion("Everything else that was chosen, and why", open=False):
        choices = gr.Markdown(elem_id="configure-chosen")
    with gr.Accordion("The same run from the command line", open=False):
        command = gr.Code(language="shell", label="Command", interactive=False, wrap_lines=True)
        yaml = gr.Code(language="yaml", label="Settings, for --config FILE", interactive=False)
    return PlanPanel(details, choices, needs, buttons, gr.State([]), drive, driven, command, yaml)


def drive(services: Services, config: TrainingConfig, data: DataChoice) -> Iterator[list[Any]]:
    """Yield what the button and the words under it show while a test drive goes on."""
    yield [gr.Button("Driving …", interactive=False), DRIVING]
    again = gr.Button("Test drive: measure it", interactive=True)
    try:
        services.test_drive(config, data)
    except WorkbenchError as error:
        yield [again, plain(str(error))]
        return
    yield [again, "Measured. Time and memory above are no estimates any more."]
