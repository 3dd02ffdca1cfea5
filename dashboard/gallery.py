"""Predictions as images with their answers, and one of them opened."""

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from dashboard import figures
from dashboard.components import GRAPH, said
from dashboard.job_rows import Filters, JobRow, search_of
from dashboard.text import clock_s, count, milliseconds, moment, percent

#: So many images are shown.
SHOWN = 36


def gallery(rows: Sequence[JobRow], filters: Filters, thumbnails: Mapping[str, bytes]) -> list[Component]:
    """The newest jobs, each a link that opens it."""
    return [_tile(row, filters, has_thumbnail=row.id in thumbnails) for row in rows[:SHOWN]]


def _tile(row: JobRow, filters: Filters, *, has_thumbnail: bool) -> Component:
    inner = [
        _image(row, has_thumbnail=has_thumbnail),
        html.Span(row.label or row.error_code or row.status, className="answer"),
        bar(row.confidence) if row.confidence is not None else html.Span(row.status, className="more"),
        html.Span(f"{clock_s(row.ended_s)} UTC · {milliseconds(row.latency_ms)}", className="more"),
        html.Span(row.model or "no model", className="more"),
        html.Span(row.file or "no file name", className="more"),
        html.Span(row.id, className="more id"),
    ]
    return html.Li(dcc.Link(inner, href=f"/predictions{search_of(filters, row.id)}", className="tile"))


def _image(row: JobRow, *, has_thumbnail: bool) -> Component:
    if has_thumbnail:
        return html.Img(src=f"/thumbnails/{row.id}", alt=f"Thumbnail of {row.file or row.id}", className="thumbnail")
    return html.Div("no thumbnail kept", className="thumbnail none")


def bar(ratio: float) -> Component:
    """A confidence as a bar and as text."""
    fill = html.Span(style={"width": f"{ratio * 100:.1f}%"}, className="fill")
    return html.Span([html.Span(fill, className="bar"), html.Span(percent(ratio, 1))], className="confidence")


def opened(row: JobRow | None, job_id: str, thumbnails: Mapping[str, bytes]) -> list[Component]:
    """Everything about one job; words where it is not remembered."""
    if row is None:
        text = f"The job {job_id} is not among those that the dashboard remembers, or it is not yours."
        return [html.P(text)]
    parts = [_image(row, has_thumbnail=row.id in thumbnails), _answers(row), *_timings(row), _facts(row)]
    return [html.Div(parts, className="opened")]


def _answers(row: JobRow) -> Component:
    if row.error_code:
        return html.Div([html.H3(f"Failed: {row.error_code}"), html.P(row.error_detail)])
    if not row.probabilities:
        return html.H3(f"No answer: {row.status}")
    ordered = sorted(row.probabilities.items(), key=lambda pair: -pair[1])
    entries = [entry for name, value in ordered for entry in (html.Dt(name), html.Dd(bar(value)))]
    return html.Div([html.H3("Probabilities"), html.Dl(entries, className="facts")])


_PHASES = (("queue", "queue_ms"), ("batch wait", "batch_wait_ms"), ("decode", "decode_ms"), ("predict", "predict_ms"))


def _timings(row: JobRow) -> list[Component]:
    if row.timings is None:
        return []
    parts = [(name, getattr(row.timings, field)) for name, field in _PHASES]
    text = ", ".join(f"{name} {value:.1f} ms" for name, value in parts)
    graph = dcc.Graph(figure=figures.stack(parts, "ms"), config=GRAPH)
    image: dict[str, Any] = {"role": "img", "aria-label": f"Timings: {text}"}
    return [html.H3("Timings"), html.Div(graph, className="figure", **image), html.P(text, className="more")]


def _facts(row: JobRow) -> Component:
    size = f"{row.features.width} x {row.features.height} px" if row.features else "not known"
    rows = (
        ("Job", row.id),
        ("File", row.file or "no name"),
        ("Status", row.status),
        ("Model", row.model or "none"),
        ("Ended", moment(row.ended_s)),
        ("Latency", milliseconds(row.latency_ms)),
        ("Attempts", str(row.attempts)),
        ("Queue", row.queue),
        ("Batch", count(row.batch_size, "image", "images") if row.batch_size else "none"),
        ("Image", size),
    )
    return html.Dl([entry for name, text in rows for entry in (html.Dt(name), html.Dd(text))], className="facts")


def filter_bar(labels: Sequence[str], models: Sequence[str], filters: Filters) -> Component:
    """The controls; what they say also stands in the address of the page."""
    controls = [
        _select("label", "Label", labels, filters.label),
        _select("status", "Status", STATUSES, filters.status),
        _select("model", "Model", models, filters.model),
        dmc.Select(
            id="predictions-minutes",
            label="Time",
            data=[{"value": str(value), "label": text} for value, text in _TIMES],
            value=str(filters.minutes),
            allowDeselect=False,
        ),
        html.Div(
            [
                html.Span("Confidence in %", className="slider-label"),
                dmc.RangeSlider(
                    id="predictions-range",
                    value=[filters.least, filters.most],
                    min=0,
                    max=100,
                    minRange=0,
                    updatemode="mouseup",
                    marks=[{"value": at, "label": str(at)} for at in (0, 50, 100)],
                    thumbFromLabel="Least confidence in per cent",
                    thumbToLabel="Most confidence in per cent",
                ),
            ],
            className="slider",
        ),
    ]
    return html.Div(controls, className="filters", role="group", **said(label="Filters"))


STATUSES = ("succeeded", "failed", "canceled", "expired")
_TIMES = ((0, "all remembered"), (5, "last 5 min"), (60, "last hour"), (1440, "last 24 h"))


def _select(name: str, title: str, choices: Sequence[str], value: str) -> Component:
    data = [{"value": "", "label": "all"}, *({"value": text, "label": text} for text in _with(choices, value))]
    select: Component = dmc.Select(id=f"predictions-{name}", label=title, data=data, value=value, allowDeselect=False)
    return select


def _with(choices: Sequence[str], value: str) -> list[str]:
    """The choices, and what the address names even if no job has it."""
    return sorted({*choices, *([value] if value else [])})
