"""Finished jobs as image tiles, and the details of one job."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from contract.job import WARNINGS
from dashboard.data.jobs import Filters, JobRow, format_query
from dashboard.parts import figures
from dashboard.parts.card import GRAPH_CONFIG, aria
from dashboard.parts.text import clock_s, count, date_time, milliseconds, percent


def tiles(rows: Sequence[JobRow], filters: Filters, thumbnails: Mapping[str, bytes], root: str) -> list[Component]:
    """A tile for each job. A click on it opens the details of the job. Links start with `root`."""
    return [_tile(row, filters, root, has_thumbnail=row.job_id in thumbnails) for row in rows]


def _tile(row: JobRow, filters: Filters, root: str, *, has_thumbnail: bool) -> Component:
    inner = [
        _image(row, root, has_thumbnail=has_thumbnail),
        html.Span(row.label or row.error_code or row.status, className="answer"),
        html.Span(row.status, className="more") if row.confidence is None else confidence_bar(row.confidence),
        *([html.Span(familiarity_text(row.familiarity), className="more")] if row.familiarity is not None else []),
        *([html.Span(f"Warning: {row.warnings.replace(' ', ', ')}", className="more warning")] if row.warnings else []),
        html.Span(f"{clock_s(row.finished_s)} UTC · {milliseconds(row.latency_ms)}", className="more"),
        html.Span(row.model or "no model", className="more"),
        html.Span(row.file or "no file name", className="more"),
        html.Span(row.job_id, className="more id"),
    ]
    return html.Li(dcc.Link(inner, href=f"{root}/predictions{format_query(filters, row.job_id)}", className="tile"))


def _image(row: JobRow, root: str, *, has_thumbnail: bool) -> Component:
    if has_thumbnail:
        alt = f"Thumbnail of {row.file or row.job_id}"
        return html.Img(src=f"{root}/thumbnails/{row.job_id}", alt=alt, className="thumbnail")
    return html.Div("no thumbnail", className="thumbnail none")


def confidence_bar(confidence: float) -> Component:
    """A probability as a bar and as text."""
    fill = html.Span(style={"width": f"{confidence * 100:.1f}%"}, className="fill")
    return html.Span([html.Span(fill, className="bar"), html.Span(percent(confidence, 1))], className="confidence")


def familiarity_text(familiarity: float) -> str:
    """A familiarity in words."""
    return f"Familiarity {percent(familiarity, 1)}"


def details(
    row: JobRow | None, job_id: str, thumbnails: Mapping[str, bytes], root: str, questions: Sequence[Component] = ()
) -> list[Component]:
    """The details of a job with `questions` about it, or why they cannot be shown. Links start with `root`."""
    if row is None:
        return [
            html.P(f"Job {job_id} is not among the latest finished jobs, or your API key does not allow you to see it.")
        ]
    image = _image(row, root, has_thumbnail=row.job_id in thumbnails)
    warnings = warning_list(row.warnings.split())
    parts = [image, _result(row), *warnings, *questions, *_timings(row), _facts(row)]
    return [html.Div(parts, className="opened")]


def _result(row: JobRow) -> Component:
    if row.error_code:
        return html.Div([html.H3(f"Failed: {row.error_code}"), html.P(row.error)])
    if not row.probabilities:
        return html.H3(f"No prediction: {row.status}")
    ordered = sorted(row.probabilities.items(), key=lambda pair: -pair[1])
    entries = [entry for name, value in ordered for entry in (html.Dt(name), html.Dd(confidence_bar(value)))]
    parts: list[Component] = [html.H3("Probabilities"), html.Dl(entries, className="facts")]
    if row.familiarity is not None:
        note = "The share of the validation images that are less similar to the training images."
        parts += [html.H3("Familiarity"), confidence_bar(row.familiarity), html.P(note, className="more")]
    return html.Div(parts)


def warning_list(codes: Sequence[str]) -> list[Component]:
    """The warnings about an image, with their meaning; empty if there are none."""
    items = [html.Li([html.Strong(code), f" {WARNINGS.get(code, '')}"]) for code in codes]
    return [html.Ul(items, className="warnings", **aria(label="Warnings"))] if items else []


_PHASES = (("queued", "queue_ms"), ("batch wait", "batch_wait_ms"), ("decode", "decode_ms"), ("predict", "predict_ms"))


def _timings(row: JobRow) -> list[Component]:
    if row.timings is None:
        return []
    parts = [(name, getattr(row.timings, field)) for name, field in _PHASES]
    text = ", ".join(f"{name} {value:.1f} ms" for name, value in parts)
    graph = dcc.Graph(figure=figures.stacked_bar(parts, "ms"), config=GRAPH_CONFIG)
    image: dict[str, Any] = {"role": "img", "aria-label": f"Timings: {text}"}
    return [html.H3("Timings"), html.Div(graph, className="figure", **image), html.P(text, className="more")]


def _facts(row: JobRow) -> Component:
    rows = (
        ("Job", row.job_id),
        ("File", row.file or "no file name"),
        ("Status", row.status),
        ("Model", row.model or "none"),
        ("Finished", date_time(row.finished_s)),
        ("Latency", milliseconds(row.latency_ms)),
        ("Attempts", str(row.attempts)),
        ("Queue", row.queue),
        ("Batch", count(row.batch_size, "image") if row.batch_size else "none"),
        ("Image size", f"{row.features.width} x {row.features.height} px" if row.features else "unknown"),
    )
    return html.Dl([entry for name, text in rows for entry in (html.Dt(name), html.Dd(text))], className="facts")
