"""The charts: pure functions from the columns of runs, or from token lengths, to a plotly figure."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from workbench.models.tokens import Histogram
from workbench.runs.columns import MAX_POINTS, Columns, sample, smooth
from workbench.runs.events import EvaluationEvent
from workbench.runs.side_by_side import RUN_COLORS

Axis = Literal["step", "epoch", "time"]
Numbers = NDArray[Any]

SMOOTHING = 0.85  # share of the past in the smoothed curve, as TensorBoard offers it
FEW_POINTS = 4  # a line of so few is hard to see

BLUE, ORANGE, GREY, RED = "#4f6df5", "#e8710a", "#8a94a6", "#d13b3b"
LOSS_DESCRIPTION = "Training loss (each step)"
AXES: dict[Axis, tuple[str, str]] = {  # title of the axis, and of what shows under the mouse
    "step": ("Step", "Step %{x}"),
    "epoch": ("Epoch", "Epoch %{x:.2f}"),
    "time": ("Minutes of training steps", "After %{x:.1f} minutes"),
}
RUN_DASHES = ("solid", "dash", "dashdot")  # for runs beyond the colors
NAME_CHARACTERS = 40

_LINES = {"gridcolor": "rgba(138,148,166,.2)", "zerolinecolor": "rgba(138,148,166,.2)"}


@dataclass(frozen=True)
class Metric:
    """What the lower chart can show.

    Attributes:
        label: With its unit.
        of: Takes it from the columns.
        digits: How its numbers are written, as plotly and d3 name formats.
        ticks: How those of the axis are, where it differs.
        is_noisy: It jumps from step to step, so that a smoothed curve helps.
    """

    label: str
    of: Callable[[Columns], Numbers]
    digits: str
    is_noisy: bool = True
    ticks: str | None = None


METRICS = {
    "learning_rate": Metric("Learning rate", lambda c: c["learning_rate"], ".2~e", False, ticks=""),
    "token_accuracy": Metric("Token accuracy", lambda c: c["token_accuracy"], ".0%"),
    "grad_norm": Metric("Gradient norm", lambda c: c["grad_norm"], ".3~g"),
    "speed": Metric("Tokens per second", lambda c: _per_second(c), ",.3~r"),
    "device_use": Metric("Device use", lambda c: c["device_use"], ".0%"),
    "memory": Metric("Memory (GB)", lambda c: c["memory_bytes"] / 1e9, ".2f", False),
}


@dataclass(frozen=True)
class ChartView:
    """How the person wants to see a run.

    Attributes:
        x: What runs along the horizontal axis.
        smoothing: As ``weight`` of ``smooth``.
        log: Whether the loss has a logarithmic scale.
        metric: Which of ``METRICS`` the lower chart shows.
    """

    x: Axis = "step"
    smoothing: float = SMOOTHING
    log: bool = False
    metric: str = "learning_rate"


def run_figure(
    columns: Columns,
    evaluations: Sequence[EvaluationEvent],
    view: ChartView,
    *,
    total_steps: int = 0,
    zoom_key: str = "",
) -> go.Figure:
    """Draw training and validation loss above one other metric.

    Args:
        columns: The steps.
        evaluations: The checks on rows held back.
        view: How.
        total_steps: The axis of steps goes up to there, so that one sees what is still to come; 0 where
            nothing is.
        zoom_key: The person's zoom stays as long as this stays.
    """
    metric = METRICS[view.metric]
    traces = [
        *_loss_traces(columns, evaluations, view),
        *_metric_traces(columns, evaluations, view, metric),
    ]
    layout = _layout(view.x, view.log, zoom_key)
    if view.x == "step" and total_steps:
        layout["xaxis"]["range"] = [0, total_steps]
    layout["xaxis"]["anchor"] = "y2"
    layout["yaxis"]["domain"] = [0.38, 1]
    layout["yaxis2"] = {
        "domain": [0, 0.27],
        "title": {"text": metric.label},
        "tickformat": metric.digits if metric.ticks is None else metric.ticks,
        "exponentformat": "e",
        "nticks": 4,
        "rangemode": "tozero",
        "uirevision": f"{zoom_key} {view.metric}",
        **_LINES,
    }
    if len(columns) and not np.isfinite(metric.of(columns)).any():
        layout["annotations"] = [_nothing_measured(metric)]
    return go.Figure(traces, layout)


def comparison_figure(
    curves: Sequence[tuple[str, Columns, Sequence[EvaluationEvent]]],
    x: Axis = "step",
    smoothing: float = SMOOTHING,
    log: bool = False,
) -> go.Figure:
    """Draw the losses of several runs over each other, each run in one color.

    Args:
        curves: Name, steps and evaluations of each run; names may hold anything.
        x: What runs along the horizontal axis.
        smoothing: As ``weight`` of ``smooth``.
        log: Whether the loss has a logarithmic scale.
    """
    traces = []
    for number, (name, columns, evaluations) in enumerate(curves):
        dashes, color = divmod(number, len(RUN_COLORS))
        style = {"color": RUN_COLORS[color], "dash": RUN_DASHES[dashes % len(RUN_DASHES)]}
        shown = as_text(name)
        kept = sample(columns["loss"])
        smoothed = smooth(columns["loss"], smoothing)
        training = _line(
            x_values(columns, x)[kept], smoothed[kept], f"{shown}: training", style | {"width": 2}
        )
        validation = _evaluation_line(columns, evaluations, x, f"{shown}: validation")
        validation |= {"line": style | {"width": 1}, "legendgroup": str(number)}
        traces += [training | {"legendgroup": str(number)}]
        traces += [validation] if evaluations else []
    return go.Figure(traces, _layout(x, log, zoom_key="comparison"))


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
    figure.update_layout(_look(top=36), height=240, bargap=0.06)
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
    figure.update_xaxes(title_text="Tokens in an example", **_LINES)
    figure.update_yaxes(title_text="Examples", rangemode="tozero", **_LINES)
    return figure


def x_values(columns: Columns, axis: Axis) -> Numbers:
    """Return where each step lies on the horizontal axis."""
    if axis == "step":
        return columns["step"].astype(np.int32)
    if axis == "epoch":
        return columns["epoch"].astype(np.float32)
    # Not the time of day: between two steps a run may have waited for Resume, or the clock been set.
    return (columns["seconds"].cumsum() / 60).astype(np.float32)


def as_text(name: str) -> str:
    """Return what a person typed as plotly shows it, which takes some HTML; no longer than a legend bears."""
    short = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
    return html.escape(short, quote=False)


def _loss_traces(
    columns: Columns, evaluations: Sequence[EvaluationEvent], view: ChartView
) -> list[dict[str, Any]]:
    losses = columns["loss"]
    kept = sample(losses)
    x = x_values(columns, view.x)
    raw = _line(x[kept], losses[kept], LOSS_DESCRIPTION, {"color": BLUE, "width": 1})
    smoothed = smooth(losses, view.smoothing)[kept]
    traces = [
        raw | {"opacity": 0.35},
        _line(x[kept], smoothed, "Training loss (smoothed)", {"color": BLUE, "width": 3}),
    ]
    if evaluations:
        name = "Validation loss (rows held back)"
        checks = _evaluation_line(columns, evaluations, view.x, name)
        traces.append(checks)
        if np.isnan(checks["y"]).any():
            traces.append(_not_a_number("Validation loss", checks["x"], checks["y"]))
    if np.isnan(losses).any():
        traces.append(_not_a_number("Loss", x, losses))
    return traces


def _metric_traces(
    columns: Columns, evaluations: Sequence[EvaluationEvent], view: ChartView, metric: Metric
) -> list[dict[str, Any]]:
    values = metric.of(columns)
    kept = sample(values)
    x = x_values(columns, view.x)[kept]
    digits = ".2%" if metric.digits.endswith("%") else metric.digits
    below = {"yaxis": "y2", "showlegend": False}
    line = {"color": BLUE if metric.is_noisy else GREY, "width": 1 if metric.is_noisy else 2}
    traces = [_line(x, values[kept], metric.label, line, digits) | below]
    if metric.is_noisy:
        smoothed = smooth(values, view.smoothing)[kept]
        line = {"color": BLUE, "width": 3}
        traces[0]["opacity"] = 0.35
        traces.append(_line(x, smoothed, f"{metric.label} (smoothed)", line, digits) | below)
    if view.metric == "token_accuracy" and evaluations:
        held_back = _evaluation_line(
            columns, evaluations, view.x, f"{metric.label} (rows held back)", "token_accuracy"
        )
        traces.append(held_back | below | {"hovertemplate": _hover(digits)})
    return traces


def _line(
    x: Numbers, y: Numbers, name: str, line: dict[str, Any], digits: str = ".4f"
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": x,
        "y": y.astype(np.float32),  # arrays travel as they are: 4 bytes a number
        "name": name,
        "mode": "lines+markers" if len(x) < FEW_POINTS else "lines",
        "line": line,
        "hovertemplate": _hover(digits),
    }


def _evaluation_line(
    columns: Columns,
    evaluations: Sequence[EvaluationEvent],
    axis: Axis,
    name: str,
    field: Literal["loss", "token_accuracy"] = "loss",
) -> dict[str, Any]:
    """Return the curve of what was measured on the rows held back; it has few points, so all are marked."""
    steps = np.array([event.step for event in evaluations], dtype=np.float64)
    values = np.array([getattr(event, field) for event in evaluations], dtype=np.float64)
    kept = sample(values)
    x = steps if axis == "step" else _between(steps, columns, axis)
    curve = _line(x[kept].astype(np.float32), values[kept], name, {"color": ORANGE, "width": 2})
    return curve | {"mode": "lines+markers", "marker": {"size": 7}}


def _between(steps: NDArray[np.float64], columns: Columns, axis: Axis) -> NDArray[np.float64]:
    """Return the epoch or the time after so many steps; the check before the first is at 0."""
    known_steps = np.concatenate([[0.0], columns["step"]])
    known_x = np.concatenate([[0.0], x_values(columns, axis)])
    between: NDArray[np.float64] = np.interp(steps, known_steps, known_x)
    return between


def _not_a_number(what: str, x: Numbers, losses: Numbers) -> dict[str, Any]:
    """Mark the steps that have no loss, where the loss was last."""
    height = pd.Series(losses).ffill().bfill().fillna(1.0).to_numpy()
    places = np.flatnonzero(np.isnan(losses))
    if len(places) > MAX_POINTS:
        places = places[np.linspace(0, len(places) - 1, MAX_POINTS).astype(int)]
    marks = _line(x[places], height[places], f"{what} was not a number", {"color": RED})
    return marks | {
        "mode": "markers",
        "marker": {"symbol": "x", "size": 10, "color": RED},
        "hovertemplate": f"{what} was not a number here<extra></extra>",
    }


def _hover(digits: str) -> str:
    # The name is not written into the template itself: what a person typed may look like one.
    return f"%{{fullData.name}}: %{{y:{digits}}}<extra></extra>"


def _per_second(columns: Columns) -> Numbers:
    seconds = columns["seconds"]
    speeds: Numbers = columns["tokens"] / np.where(seconds > 0, seconds, np.nan)
    return speeds


def _nothing_measured(metric: Metric) -> dict[str, Any]:
    return {
        "text": f"{metric.label}: not measured in this run",
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": 0.13,
        "showarrow": False,
    }


def _layout(axis: Axis, log: bool, zoom_key: str) -> dict[str, Any]:
    title, under_mouse = AXES[axis]
    return _look(top=64) | {
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "x unified",
        "hoversubplots": "axis",
        "uirevision": zoom_key,
        "xaxis": {
            "title": {"text": title},
            "unifiedhovertitle": {"text": under_mouse},
            "rangemode": "tozero",
            "uirevision": f"{zoom_key} {axis}",
            **_LINES,
        },
        "yaxis": {
            "title": {"text": "Loss"},
            "type": "log" if log else "linear",
            "rangemode": "normal" if log else "tozero",
            "uirevision": f"{zoom_key} {log}",
            **_LINES,
        },
    }


def _look(top: int) -> dict[str, Any]:
    """Return what all charts share; they lie on the page's own background, light or dark."""
    return {
        "template": "none",
        "margin": {"l": 60, "r": 16, "t": top, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": GREY, "size": 13, "family": "system-ui, sans-serif"},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
        "hoverlabel": {"bgcolor": "#1f2430", "font": {"color": "#ffffff"}},
    }
