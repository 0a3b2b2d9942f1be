"""The chart of a run and what chooses how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import plotly

from workbench.errors import WorkbenchError
from workbench.runs.columns import Columns, ColumnsCache, steps_csv
from workbench.runs.status import RunSnapshot
from workbench.services import Services
from workbench.ui.charts import METRICS, SMOOTHING, ChartView, run_figure
from workbench.ui.saving import save_on_click

HEIGHT_PIXELS = 470
MOST_SMOOTHING = 0.99
HELP = (
    "Drag across a part to see it larger, double-click to see everything again. The camera at the top "
    "right saves a picture (PNG)."
)
PLOTLY_PATH = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
# gr.Plot makes a new chart of every value: zoom and the box under the mouse are gone at each tick. This one
# stays and is redrawn. It is first drawn when its tab may be hidden, where nothing has a size.
DRAWING = """
const Plotly = window.Plotly;  // a gr.Plot, loaded later, puts its own version there
const plot = element.querySelector('.wb-chart');
const options = {
    displaylogo: false,
    displayModeBar: true,
    showSendToCloud: false,
    modeBarButtonsToRemove: ['sendChartToCloud', 'select2d', 'lasso2d', 'autoScale2d'],
    toImageButtonOptions: {filename: 'training', scale: 2},
};
const draw = () => {
    const figure = JSON.parse(props.value || '{}');
    Plotly.react(plot, figure.data || [], figure.layout || {}, options);
};
watch('value', draw);
draw();
new ResizeObserver(() => plot.offsetParent && Plotly.Plots.resize(plot)).observe(plot);
"""


@dataclass(frozen=True)
class ChartPanel:
    """The components, and what they show.

    Attributes:
        components: What the person chooses; a change of one asks for another ``draw``.
        drawn: What the chart shows, in one word. It is in the browser, where gradio finds it at once.
        outputs: What ``draw`` returns values for.
        panel: All of it, which ``show`` shows or hides.
    """

    components: list[Any]
    drawn: gr.Textbox
    outputs: list[Any]
    panel: gr.Column
    _columns: ColumnsCache = field(default_factory=ColumnsCache, repr=False)

    @property
    def inputs(self) -> list[Any]:
        """What ``draw`` takes after the run: what is drawn, and what the person chose."""
        return [self.drawn, *self.components]

    def draw(
        self, run_id: str, snapshot: RunSnapshot | None, already_drawn: str, *chosen: Any
    ) -> list[Any]:
        """Return what the components show for a run; where nothing changed, nothing is drawn.

        Args:
            run_id: Which run.
            snapshot: How it is; ``None`` for no run.
            already_drawn: The value of ``drawn``.
            chosen: The values of ``components``.
        """
        if snapshot is None or not _has_points(snapshot):
            return ["", ""] if already_drawn else [gr.skip(), gr.skip()]
        newest = snapshot.steps[-1].time if snapshot.steps else 0
        counts = f"{len(snapshot.steps)} {len(snapshot.evaluations)} {newest}"
        to_draw = f"{run_id} {counts} {snapshot.is_active} {chosen}"
        if to_draw == already_drawn:
            return [gr.skip(), gr.skip()]
        figure = run_figure(
            self._columns.get(run_id, snapshot.steps),
            snapshot.evaluations,
            ChartView(*chosen),
            total_steps=snapshot.total_steps if snapshot.is_active else 0,
            zoom_key=run_id,
        )
        return [figure.to_json(), to_draw]

    def show(self, snapshot: RunSnapshot | None) -> Any:
        """Return the update of ``panel``: there is a chart where there are points."""
        return gr.Column(visible=snapshot is not None and _has_points(snapshot))


def build_chart_panel(services: Services, run_choice: gr.Dropdown) -> ChartPanel:
    """Lay the chart out, its choices below it, and wire what it does by itself: saving a table.

    Args:
        services: Where the runs are.
        run_choice: The run shown, by its id.
    """
    with gr.Column(visible=False, elem_id="train-chart-panel") as panel:
        chart = build_chart("train-chart", HEIGHT_PIXELS)
        with gr.Row():
            gr.Markdown(HELP, elem_classes="wb-help")
            save = gr.Button(
                "Save all numbers (CSV)",
                size="sm",
                scale=0,
                min_width=210,
                elem_id="train-chart-save",
            )
        with gr.Row():
            x, smoothing, log = build_view_choices("train-chart")
            metric = gr.Dropdown(
                [(metric.label, name) for name, metric in METRICS.items()],
                label="Lower chart",
                scale=2,
                min_width=180,
                elem_id="train-chart-metric",
            )
    drawn = gr.Textbox(visible="hidden")

    def make_csv(run_id: str | None) -> tuple[str, str]:
        if not run_id:
            raise WorkbenchError("There is no run to save the numbers of.", "Choose a run.")
        snapshot = services.supervisor.snapshot(services.runs.get(run_id))
        return f"{run_id}.csv", steps_csv(Columns.of(snapshot.steps), snapshot.evaluations)

    save_on_click(save, make_csv, run_choice)
    return ChartPanel([x, smoothing, log, metric], drawn, [chart, drawn], panel)


def _has_points(snapshot: RunSnapshot) -> bool:
    return bool(snapshot.steps or snapshot.evaluations)


def build_view_choices(prefix: str) -> tuple[gr.Radio, gr.Slider, gr.Checkbox]:
    """Lay out how a loss may be drawn: the axis, the smoothing, and whether the scale is logarithmic.

    Args:
        prefix: What their ids begin with.
    """
    x = gr.Radio(
        [("Steps", "step"), ("Epochs", "epoch"), ("Minutes", "time")],
        value="step",
        label="Along the bottom",
        scale=3,
        min_width=300,
        elem_id=f"{prefix}-x",
    )
    smoothing = gr.Slider(
        0,
        MOST_SMOOTHING,
        SMOOTHING,
        step=0.01,
        label="Smoothing",
        info="0 shows every step as it was",
        scale=3,
        min_width=220,
        elem_id=f"{prefix}-smoothing",
    )
    log = gr.Checkbox(
        label="Logarithmic loss",
        info="spreads small losses apart",
        elem_classes="wb-log",
        elem_id=f"{prefix}-log",
    )
    return x, smoothing, log


def build_chart(elem_id: str, height_pixels: int) -> gr.HTML:
    """Return a component that shows the JSON of a plotly figure and keeps the zoom while it changes."""
    gr.set_static_paths(PLOTLY_PATH)
    return gr.HTML(
        html_template=f'<div class="wb-chart" style="height: {height_pixels}px"></div>',
        js_on_load=DRAWING,
        head=f'<script src="gradio_api/file={quote(PLOTLY_PATH.as_posix())}"></script>',
        apply_default_css=False,
        elem_id=elem_id,
    )
