"""The charts: pure functions from a snapshot, or from token lengths, to a plotly figure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.models.tokens import Histogram
from workbench.runs.status import RunSnapshot

SMOOTHING = 0.85  # share of the past in the smoothed curve, as TensorBoard offers it
MAX_POINTS = 1000  # more cannot be seen, and every tick sends them

BLUE, ORANGE, GREY = "#4f6df5", "#e8710a", "#8a94a6"
LOSS_DESCRIPTION = "Training loss (each step)"


def loss_figure(snapshot: RunSnapshot) -> go.Figure:
    """Draw training loss (raw and smoothed) and validation loss above the learning rate."""
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.74, 0.26], vertical_spacing=0.08
    )
    numbers = [step.step for step in snapshot.steps]
    losses = [step.loss for step in snapshot.steps]
    keep = _sample(len(numbers))
    x = [numbers[index] for index in keep]
    smoothed = smooth(losses)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[losses[index] for index in keep],
            name=LOSS_DESCRIPTION,
            mode="lines+markers" if len(x) < 4 else "lines",
            line={"color": BLUE, "width": 1},
            opacity=0.35,
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[smoothed[index] for index in keep],
            name="Training loss (smoothed)",
            mode="lines",
            line={"color": BLUE, "width": 3},
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Scatter(
            x=[evaluation.step for evaluation in snapshot.evaluations],
            y=[evaluation.loss for evaluation in snapshot.evaluations],
            name="Validation loss (rows held back)",
            mode="lines+markers",
            line={"color": ORANGE, "width": 2},
            marker={"size": 7},
        ),
        row=1,
        col=1,
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=[snapshot.steps[index].learning_rate for index in keep],
            name="Learning rate",
            mode="lines",
            line={"color": GREY, "width": 2},
            showlegend=False,
        ),
        row=2,
        col=1,
    )
    return _styled(figure, snapshot.total_steps)


def length_figure(bars: Histogram, limit_tokens: int) -> go.Figure:
    """Draw how many examples have which length in tokens, and where the maximum length cuts off."""
    centres = [(low + high - 1) / 2 for low, high in pairwise(bars.edges)]
    spans = [f"{low:,} to {high - 1:,}" for low, high in pairwise(bars.edges)]
    spans[-1] = f"{bars.edges[-2]:,} and more"
    colors = [ORANGE if centre > limit_tokens else BLUE for centre in centres]
    figure = go.Figure(
        go.Bar(
            x=centres,
            y=bars.counts,
            customdata=spans,
            marker_color=colors,
            hovertemplate="%{y:,} examples with %{customdata} tokens<extra></extra>",
        )
    )
    _style(figure, height=240)
    if limit_tokens <= bars.edges[-1]:
        figure.add_vline(x=limit_tokens, line={"color": ORANGE, "width": 2, "dash": "dash"})
        figure.add_annotation(
            x=limit_tokens,
            y=1,
            yref="paper",
            yanchor="bottom",
            showarrow=False,
            text="maximum length",
        )
    figure.update_layout(bargap=0.06)
    figure.update_xaxes(title_text="Tokens in an example")
    figure.update_yaxes(title_text="Examples")
    return figure


def smooth(values: Sequence[float | None], weight: float = SMOOTHING) -> list[float | None]:
    """Return the exponential moving average with bias correction.

    A point depends on the past only, so the curve never changes behind the newest point. ``None``
    (a loss that was not a number) stays ``None`` and does not enter the average.

    Source of the bias correction: Kingma and Ba, arXiv 1412.6980, section 3.
    """
    average, norm = 0.0, 0.0
    smoothed: list[float | None] = []
    for value in values:
        if value is None:
            smoothed.append(None)
            continue
        average = weight * average + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append(average / norm)
    return smoothed


def _sample(count: int) -> list[int]:
    """Return at most ``MAX_POINTS`` indices, evenly spread, with the last one."""
    if count <= MAX_POINTS:
        return list(range(count))
    stride = -(-count // MAX_POINTS)
    return sorted({*range(0, count, stride), count - 1})


def _styled(figure: go.Figure, total_steps: int) -> go.Figure:
    _style(figure, height=430)
    figure.update_layout(
        legend={"orientation": "h", "y": 1.12, "x": 0},
        hovermode="x unified",
        uirevision="loss",  # keeps the person's zoom while points arrive
    )
    figure.update_xaxes(range=[0, max(total_steps, 1)])
    figure.update_xaxes(title_text="Step", row=2, col=1)
    figure.update_yaxes(title_text="Loss", row=1, col=1)
    figure.update_yaxes(title_text="Learning rate", row=2, col=1, tickformat=".0e", nticks=3)
    return figure


def _style(figure: go.Figure, height: int) -> None:
    figure.update_layout(
        height=height,
        margin={"l": 56, "r": 16, "t": 36, "b": 44},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13},
    )
    figure.update_xaxes(gridcolor="rgba(138,148,166,.2)")
    figure.update_yaxes(gridcolor="rgba(138,148,166,.2)", rangemode="tozero")
