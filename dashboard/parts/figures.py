"""Plotly figures as plain dictionaries. The style sheet sets the colors of text and grid lines.

`plotly.graph_objects.Figure` would validate every attribute on every refresh. The tests do that instead.
"""

import math
from collections.abc import Sequence
from typing import Any

from dashboard.data.quantities import Line, Point

Figure = dict[str, Any]

#: Safe for color-blind readers, with a contrast of 3:1 on light and dark backgrounds (after Okabe and Ito).
COLORS = ("#1f78c8", "#c8570a", "#0a8f6c", "#b0508e", "#8a7400", "#6a6fd0", "#7b8088")
#: Used together with the colors, so that lines and bars can also be told apart without color.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "2px,2px,8px,2px")
PATTERNS = ("", "/", ".", "x", "-", "+", "|")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
#: Charts of whole numbers up to this value get one tick for each number.
_WHOLE_TICKS_MAX = 5
_HEIGHT, _MARGIN = 240, {"l": 52, "r": 12, "t": 8, "b": 36}
#: Invisible ticks keep the labels of both axes apart.
_TICK_GAP = {"ticks": "outside", "ticklen": 5, "tickcolor": "rgba(0,0,0,0)"}


def _layout(y_title: str, x_title: str = "", **more: Any) -> dict[str, Any]:
    """The layout of all figures."""
    return {
        "height": _HEIGHT,
        "margin": _MARGIN | ({"b": 54} if x_title else {}),
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "inherit", "size": 12},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {"title": {"text": x_title, "standoff": 10}, "showgrid": False, "zeroline": False, "fixedrange": True}
        | _TICK_GAP,
        "yaxis": {"title": {"text": y_title}, "rangemode": "tozero", "zeroline": False, "fixedrange": True},
        "uirevision": "kept",  # lines that a viewer has hidden in the legend stay hidden
        **more,
    }


def lines(rows: Sequence[Line], y_title: str, *, markers: bool = False) -> Figure:
    """Lines over time, by name."""
    figure: Figure = {
        "data": [_line(index, name, points, markers=markers) for index, (name, points) in enumerate(rows)],
        "layout": _layout(y_title),
    }
    figure["layout"]["showlegend"] = True  # Plotly hides it for a single line by default
    figure["layout"]["xaxis"] |= {"type": "date", **_clock_ticks([at_s for _, points in rows for at_s, _ in points])}
    figure["layout"]["yaxis"] |= _whole_ticks([value for _, points in rows for _, value in points])
    return figure


def _clock_ticks(times_s: Sequence[float]) -> dict[str, Any]:
    """Ticks with seconds for short time spans and with dates for long ones; one tick for a single point."""
    first_s, last_s = min(times_s, default=0.0), max(times_s, default=0.0)
    if first_s == last_s:
        return {"tickformat": "%H:%M:%S", "tickvals": [round(first_s) * 1000]}
    span_s = last_s - first_s
    tick_format = "%H:%M:%S" if span_s < 400 else "%H:%M" if span_s < 86_400 else "%d %b %H:%M"
    return {"nticks": min(5, math.ceil(span_s)), "tickformat": tick_format}  # at most one tick per second


def _whole_ticks(values: Sequence[float | None]) -> dict[str, Any]:
    """Ticks at whole numbers for small counts; Plotly would choose ticks such as 0.2 jobs."""
    known = [value for value in values if value is not None]
    are_few = max(known, default=0) <= _WHOLE_TICKS_MAX and all(float(value).is_integer() for value in known)
    return {"dtick": 1} if are_few else {}


def _line(index: int, name: str, points: Sequence[Point], *, markers: bool) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines" if len(points) > 1 else "markers",
        "name": name,
        "x": [round(at_s) * 1000 for at_s, _ in points],
        "y": [_rounded(value) for _, value in points],
        "line": {"color": COLORS[index % len(COLORS)], "dash": DASHES[index % len(DASHES)], "width": 2},
        "marker": {"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 7},
        "connectgaps": False,
    }


def bars(names: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]], y_title: str, x_title: str = "") -> Figure:
    """Grouped bars: one group per name, one bar per row."""
    data = [
        {
            "type": "bar",
            "name": name,
            "x": list(names),
            "y": [_rounded(value) for value in values],
            "marker": {"color": COLORS[index % len(COLORS)], "pattern": {"shape": PATTERNS[index % len(PATTERNS)]}},
        }
        for index, (name, values) in enumerate(rows)
    ]
    figure: Figure = {"data": data, "layout": _layout(y_title, x_title, barmode="group", showlegend=len(rows) > 1)}
    figure["layout"]["xaxis"] |= {"type": "category"}
    figure["layout"]["yaxis"] |= _whole_ticks([value for _, values in rows for value in values])
    return figure


def distributions(
    middles: Sequence[float], widths: Sequence[float], rows: Sequence[tuple[str, Sequence[float]]], x_title: str
) -> Figure:
    """Two distributions over the same bins, in per cent: the first as bars, the second as a stepped line."""
    (bar_name, bar_values), (line_name, line_values) = rows
    left = [middle - width / 2 for middle, width in zip(middles, widths, strict=True)]
    data = [
        {
            "type": "bar",
            "name": bar_name,
            "x": list(middles),
            "width": list(widths),
            "y": [_rounded(value) for value in bar_values],
            "marker": {"color": COLORS[0], "opacity": 0.55},
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": line_name,
            "x": [*left, left[-1] + widths[-1]],
            "y": [_rounded(value) for value in [*line_values, line_values[-1]]],
            "line": {"color": COLORS[1], "width": 2.5, "shape": "hv"},
        },
    ]
    return {"data": data, "layout": _layout("% of images", x_title, bargap=0)}


def heatmap(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """A confusion matrix: actual labels in rows, predicted labels in columns."""
    data = [
        {
            "type": "heatmap",
            "x": [f"predicted {name}" for name in names],
            "y": [f"actual {name}" for name in names],
            "z": [list(row) for row in counts],
            "text": [[f"{value:,}" for value in row] for row in counts],
            "texttemplate": "%{text}",
            "textfont": {"size": 16, "color": "#101418"},
            "colorscale": [[0, "#e8f1fa"], [1, "#7fb6e6"]],
            "showscale": False,
        }
    ]
    figure: Figure = {
        "data": data,
        "layout": _layout("", hovermode="closest", margin={"l": 84, "r": 12, "t": 8, "b": 36}),
    }
    figure["layout"]["yaxis"] = {"autorange": "reversed", "fixedrange": True, "type": "category"}
    return figure


def calibration(points: Sequence[tuple[float, float, int]]) -> Figure:
    """Accuracy by confidence in per cent, and the line of perfect calibration.

    `points` are (mean confidence, accuracy, images).
    """
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "perfect calibration",
            "x": [50, 100],
            "y": [50, 100],
            "line": {"color": COLORS[1], "dash": "dash", "width": 2},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": "this model",
            "x": [_rounded(confidence * 100) for confidence, _, _ in points],
            "y": [_rounded(accuracy * 100) for _, accuracy, _ in points],
            "text": [f"{count:,} images" for _, _, count in points],
            "line": {"color": COLORS[0], "width": 2},
            "marker": {"size": 8},
        },
    ]
    return {"data": data, "layout": _layout("accuracy in %", "confidence in %", hovermode="closest")}


def stacked_bar(parts: Sequence[tuple[str, float]], unit: str) -> Figure:
    """A horizontal bar divided into parts."""
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [""],
            "x": [_rounded(value)],
            "marker": {"color": COLORS[index % len(COLORS)], "pattern": {"shape": PATTERNS[index % len(PATTERNS)]}},
        }
        for index, (name, value) in enumerate(parts)
    ]
    figure: Figure = {"data": data, "layout": _layout("", unit, barmode="stack", height=150, hovermode="closest")}
    figure["layout"]["legend"] |= {"traceorder": "normal"}
    return figure


def _rounded(value: float | None) -> float | None:
    """Round to four significant digits: precise enough for a chart, at a third of the size."""
    return None if value is None else float(f"{value:.4g}")
