"""The Predictions page: the latest results as images, with filters, details of one job, charts and a CSV download."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate
from flask import Flask, Response, request

from contract.access import Scope
from contract.csv_text import csv_line
from contract.errors import UnavailableError
from contract.job import JobStatus, is_job_id, split_model
from dashboard.data.jobs import Filters, JobRow, format_query, parse_filters, parse_job_id
from dashboard.data.quantities import Line
from dashboard.pages.page import Page, View, current_view, in_browser, plain
from dashboard.parts.card import Content, aria, chart_card, line_content, with_code
from dashboard.parts.gallery import details, tiles
from dashboard.parts.text import count, date_time
from dashboard.services import Services
from dashboard.sign_in import current_viewer, refusal_of

CARDS = (
    chart_card("predictions-mix", "Labels over time", "Share of each label over time."),
    chart_card("predictions-confidence", "Confidence over time", "Percentiles over time."),
)
#: Maximum number of tiles shown.
_TILES_MAX = 36
_NO_JOBS = "No jobs have finished recently."


def contents(view: View) -> dict[str, Content]:
    """What each card shows, for the jobs that match the filters."""
    rows = matching(view.jobs, parse_filters(view.search), view.snapshot.at_s)
    slices = time_slices([row for row in rows if row.confidence is not None])
    return {
        "predictions-mix": _chart(view, "% of images", label_mix(slices)),
        "predictions-confidence": _chart(view, "%", confidence_over_time(slices)),
    }


def layout(view: View, cards: list[Component]) -> list[Component]:
    """The filters, the gallery, the charts, and a dialog for one job."""
    labels = sorted({row.label for row in view.jobs if row.label})
    models = sorted({row.model for row in view.jobs if row.model})
    return [
        dcc.Location(id="predictions-url", refresh="callback-nav"),
        _filter_bar(labels, models, parse_filters(view.search)),
        html.Div(
            [
                html.P(id="predictions-count", className="note", role="status"),
                html.P("Updates are paused while you browse.", id="predictions-paused", className="paused"),
                html.A("Download as CSV", id="predictions-csv", href=_csv_url(view, view.search), className="button"),
            ],
            className="row",
        ),
        dcc.Store(id="predictions-found"),
        html.Ul(id="predictions-gallery", className="gallery", tabIndex=-1),
        html.Div(cards, className="cards"),
        dmc.Modal(
            id="predictions-opened",
            title="Prediction",
            size="lg",
            children=html.Div(id="predictions-details"),
            closeButtonProps={"aria-label": "Close"},
        ),
    ]


_CONTROLS = [Input(f"predictions-{name}", "value") for name in ("label", "status", "model", "minutes", "range")]


def register(app: Dash, services: Services) -> None:
    """Register the callbacks of filters, gallery and dialog, and the routes of thumbnails and the CSV file."""
    _register_routes(app, services)

    @app.callback(
        Output("predictions-found", "data"),
        Output("predictions-count", "children"),
        Output("predictions-csv", "href"),
        Input("predictions-seen", "data"),
        Input("predictions-url", "search"),
    )
    def find(_seen: int, search: str | None) -> tuple[Any, Any, Any]:
        view = current_view(services, search)
        key = ("gallery", view.viewer.cache_key, view.root, format_query(parse_filters(view.search)))
        return services.cache.get(view.snapshot, key, lambda: _search(view))

    drawn = Output("predictions-gallery", "children"), Output("predictions-paused", "className")
    in_browser(app, "drawGallery", *drawn, Input("predictions-found", "data"))

    @app.callback(
        Output("predictions-url", "search"),
        *(Output(control.component_id, "value") for control in _CONTROLS),
        Output("predictions-opened", "opened"),
        Input("predictions-url", "search"),
        Input("predictions-opened", "opened"),
        *_CONTROLS,
    )
    def sync_address(search: str | None, is_open: Any, *controls: Any) -> tuple[Any, ...]:
        """Keep the URL, the filter controls and the dialog in sync, whichever of them changes."""
        if ctx.triggered_id in (None, "predictions-url"):
            return (no_update, *_control_values(parse_filters(search or "")), bool(parse_job_id(search or "")))
        if ctx.triggered_id == "predictions-opened":
            new_search = no_update if is_open else format_query(parse_filters(search or ""))
            return (new_search, *[no_update] * len(_CONTROLS), no_update)
        return (format_query(_filters_from(controls)), *[no_update] * len(_CONTROLS), False)

    @app.callback(Output("predictions-details", "children"), Input("predictions-url", "search"))
    def show_details(search: str | None) -> Any:
        job_id = parse_job_id(search or "")
        if not job_id:
            raise PreventUpdate
        view = current_view(services, search)
        row = _row_of(view, job_id)
        return details(row, job_id, view.snapshot.thumbnails, view.root, _right_label(services, row))

    _register_right_label(app, services)


def _right_label(services: Services, row: JobRow | None) -> list[Component]:
    """Asks what the image of a job shows; nothing if the job has no label that could be right or wrong."""
    if row is None or not row.label:
        return []
    labels, reported = _known_labels(services, row)
    if not labels:
        return []
    if _may_not_label(services):
        note = "To report the right label, sign in with an API key that has the scope `submit`."
        return [html.P(with_code(note), className="note")]
    others = [label for label in labels if label != row.label]
    return [
        html.H3("What does the image show?"),
        html.Div(
            [
                html.Button(row.label, id="predictions-right", type="button", className="button"),
                dmc.Select(
                    id="predictions-wrong",
                    data=others,
                    searchable=True,
                    placeholder="Another label",
                    limit=50,
                    **aria(label="Another label"),
                ),
            ],
            className="answers",
        ),
        html.P(
            f"Reported: {reported}." if reported else "", id="predictions-reported", className="note", role="status"
        ),
    ]


def _register_right_label(app: Dash, services: Services) -> None:
    """Register the callback that reports the right label of the open job."""

    @app.callback(
        Output("predictions-reported", "children"),
        Input("predictions-right", "n_clicks"),
        Input("predictions-wrong", "value"),
        State("predictions-url", "search"),
        prevent_initial_call=True,
    )
    def report(_clicks: int | None, other: str | None, search: str | None) -> str:
        row = _row_of(current_view(services, search), parse_job_id(search or ""))
        if row is None or not ctx.triggered[0]["value"]:
            raise PreventUpdate
        if refusal := _may_not_label(services):
            return refusal
        label = str(other) if ctx.triggered_id == "predictions-wrong" else row.label
        answer = services.gateway.feedback(row.job_id, label, current_viewer().api_key)
        return answer.problem if answer.values is None else f"Reported: {label}."


def _row_of(view: View, job_id: str) -> JobRow | None:
    return next((row for row in view.jobs if row.job_id == job_id), None)


def _may_not_label(services: Services) -> str:
    """Why the viewer may not report labels; empty if they may. See `gateway_requires_keys`."""
    return refusal_of(services.access, Scope.SUBMIT, *(() if services.gateway_requires_keys else (Scope.ADMIN,)))


def _known_labels(services: Services, row: JobRow) -> tuple[Sequence[str], str]:
    """The labels of the version that processed a job, and the label that was reported for it.

    There are none if an image can have several labels, because feedback has only one.
    """
    name, version = split_model(row.model)
    ledger = services.reader.ledger
    try:
        model = ledger.models.model(name)
        info = model.versions.get(version) if model else None
        if info and info.output == "multi_label":
            return (), ""
        return (info.labels if info else sorted(row.probabilities)), ledger.feedback.label_of(row.job_id)
    except UnavailableError:
        return (), ""


def _register_routes(app: Dash, services: Services) -> None:
    server: Flask = app.server

    @server.get("/thumbnails/<job_id>")
    def thumbnail(job_id: str) -> tuple[str, int] | Response:
        snapshot, viewer = services.reader.latest, current_viewer()
        data = snapshot.thumbnails.get(job_id) if is_job_id(job_id) else None
        if data is None or not any(row.job_id == job_id for row in viewer.visible(snapshot.jobs)):
            return "Thumbnail not found.", 404
        return Response(data, mimetype="image/webp", headers={"Cache-Control": "private, max-age=3600"})

    @server.get("/predictions.csv")
    def download() -> Response:
        snapshot, filters = services.reader.latest, parse_filters(request.query_string.decode())
        rows = matching(current_viewer().visible(snapshot.jobs), filters, snapshot.at_s)
        headers = {"Content-Disposition": 'attachment; filename="predictions.csv"'}
        return Response(to_csv(rows), mimetype="text/csv", headers=headers)


PAGE = Page(
    "predictions",
    "/predictions",
    "Predictions",
    "The latest results, newest first.",
    CARDS,
    contents,
    layout,
    register,
    filters=lambda search: format_query(parse_filters(search)),
    location="predictions-url",
)


def matching(rows: Sequence[JobRow], filters: Filters, now_s: float) -> list[JobRow]:
    """The jobs that match the filters, in the given order."""
    return [row for row in rows if filters.match(row, now_s)]


def _search(view: View) -> tuple[dict[str, Any], str, str]:
    """The gallery, the note above it, and the address of the CSV file."""
    snapshot, filters, jobs = view.snapshot, parse_filters(view.search), view.jobs
    rows = matching(jobs, filters, snapshot.at_s)
    note = _NO_JOBS
    if jobs:
        verb = "matches" if len(rows) == 1 else "match"
        note = f"{len(rows):,} of {_extent(jobs, are_sampled=snapshot.jobs_are_sampled)} {verb} the filters."
    if len(rows) > _TILES_MAX:
        note += f" Showing the newest {_TILES_MAX}."
    query = format_query(filters)
    shown = plain(tiles(rows[:_TILES_MAX], filters, snapshot.thumbnails, view.root))
    # The sequence makes each value different, so `drawGallery` runs again even if its last call skipped the redraw.
    return {"sequence": snapshot.sequence, "search": query, "tiles": shown}, note, _csv_url(view, query)


def _csv_url(view: View, query: str) -> str:
    return f"{view.root}/predictions.csv{query}"


def _extent(jobs: Sequence[JobRow], *, are_sampled: bool) -> str:
    if are_sampled:
        return f"a sample of {count(len(jobs), 'finished job')}"
    return f"the last {count(len(jobs), 'finished job')}"


def _chart(view: View, unit: str, lines: Sequence[Line]) -> Content:
    jobs = view.jobs
    note = f"Based on {_extent(jobs, are_sampled=view.snapshot.jobs_are_sampled)}"
    empty = "No predictions match the filters." if jobs else _NO_JOBS
    content = line_content(view.snapshot.ledger, note, lines, unit, empty, markers=True)
    if content.figure:
        content.figure["layout"]["yaxis"]["range"] = [0, 103]
    return content


#: The charts divide the time span of the jobs into this many slices.
_SLICES = 30
_PERCENTILES = ((0.1, "p10"), (0.5, "p50"), (0.9, "p90"))


def time_slices(rows: Sequence[JobRow]) -> list[tuple[float, list[JobRow]]]:
    """Divide jobs, given newest first, into equal time slices: (middle of the slice, jobs), oldest first."""
    if not rows:
        return []
    first_s, last_s = rows[-1].finished_s, rows[0].finished_s
    width_s = max(1.0, (last_s - first_s) / _SLICES)
    slices: dict[int, list[JobRow]] = {}
    for row in rows:
        slices.setdefault(min(_SLICES - 1, max(0, int((row.finished_s - first_s) / width_s))), []).append(row)
    return [(first_s + (index + 0.5) * width_s, found) for index, found in sorted(slices.items())]


def label_mix(slices: Sequence[tuple[float, Sequence[JobRow]]]) -> list[Line]:
    """The share of each label in per cent over time."""
    labels = sorted({row.label for _, rows in slices for row in rows})
    counts = [(at_s, Counter(row.label for row in rows)) for at_s, rows in slices]
    return [(label, tuple((at_s, 100 * found[label] / found.total()) for at_s, found in counts)) for label in labels]


def confidence_over_time(slices: Sequence[tuple[float, Sequence[JobRow]]]) -> list[Line]:
    """Percentiles of the confidence in per cent over time."""
    if not slices:
        return []
    ordered = [(at_s, sorted(row.confidence or 0.0 for row in rows)) for at_s, rows in slices]
    return [
        (name, tuple((at_s, 100 * values[int(share * (len(values) - 1) + 0.5)]) for at_s, values in ordered))
        for share, name in _PERCENTILES
    ]


_CSV_COLUMNS = (
    "job_id", "file", "status", "label", "confidence", "model", "ended_at", "latency_ms", "attempts", "error",
    "warnings", "familiarity",
)  # fmt: skip


def to_csv(rows: Sequence[JobRow]) -> str:
    """The jobs as CSV with a header."""
    lines = [csv_line(_CSV_COLUMNS)]
    for row in rows:
        result = (row.job_id, row.file, row.status, row.label, row.confidence, row.model)
        run = (date_time(row.finished_s), row.latency_ms, row.attempts, row.error_code, row.warnings, row.familiarity)
        lines.append(csv_line((*result, *run)))
    return "".join(lines)


_TIMES = ((0, "all"), (5, "last 5 min"), (60, "last hour"), (1440, "last 24 h"))
_STATUSES = [str(status) for status in JobStatus if status.is_final]


def _filter_bar(labels: Sequence[str], models: Sequence[str], filters: Filters) -> Component:
    controls = [
        _select("label", "Label", labels, filters.label),
        _select("status", "Status", _STATUSES, filters.status),
        _select("model", "Model", models, filters.model),
        dmc.Select(
            id="predictions-minutes",
            label="Finished",
            data=[{"value": str(minutes), "label": text} for minutes, text in _TIMES],
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
                    thumbFromLabel="Minimum confidence in per cent",
                    thumbToLabel="Maximum confidence in per cent",
                ),
            ],
            className="slider",
        ),
    ]
    return html.Div(controls, className="filters", role="group", **aria(label="Filters"))


def _select(name: str, title: str, choices: Sequence[str], value: str) -> Component:
    known = sorted({*choices, *([value] if value else [])})  # the URL may contain a value that no job has
    data = [{"value": "", "label": "all"}, *({"value": text, "label": text} for text in known)]
    select: Component = dmc.Select(id=f"predictions-{name}", label=title, data=data, value=value, allowDeselect=False)
    return select


def _control_values(filters: Filters) -> list[Any]:
    return [filters.label, filters.status, filters.model, str(filters.minutes), [filters.least, filters.most]]


def _filters_from(controls: tuple[Any, ...]) -> Filters:
    label, status, model, minutes, (least, most) = controls
    return Filters(label or "", status or "", model or "", least, most, int(minutes or 0))
