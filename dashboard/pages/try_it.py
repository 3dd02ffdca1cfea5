"""The Try it page: uploads images through the gateway, like any other client, and shows the results."""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from dash import ALL, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component
from flask import Flask, Response, request

from contract.job import is_job_id
from contract.status import NO_WORKER
from dashboard.data.gateway import UNAVAILABLE, Answer, GatewayClient
from dashboard.data.snapshot import Snapshot
from dashboard.pages.page import Page, View, in_browser
from dashboard.parts.card import with_code
from dashboard.parts.gallery import confidence_bar, familiarity_text, warning_list
from dashboard.parts.text import UNKNOWN, clock, milliseconds
from dashboard.services import Services
from dashboard.sign_in import current_viewer

#: Images per upload; `pawqueue submit` handles whole folders.
_IMAGES_MAX = 20
#: Images kept on the page.
_ENTRIES_MAX = 60
#: When the browser reconnects.
_RETRY_MS = 1000
#: nginx would hold back events, and a cache would keep them.
_STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}


def layout(_view: View, _cards: list[Component]) -> list[Component]:
    """The state of the service, the upload area and the results."""
    upload = dcc.Upload(
        id="try-upload",
        children=html.Div(
            [
                html.Button("Choose images", type="button", className="button"),
                html.Span(f"or drop up to {_IMAGES_MAX} images here"),
            ],
            className="drop",
        ),
        multiple=True,
        className="upload",
        className_active="upload is-active",
    )
    return [
        html.Dl(id="try-status", className="services"),
        upload,
        html.P(id="try-note", role="status", className="note"),
        html.Ul(id="try-results", className="results"),
        dcc.Store(id="try-images"),
        dcc.Store(id="try-uploaded"),
        dcc.Store(id="try-updated"),
        dcc.Store(id="try-entries", data=[]),
    ]


def register(app: Dash, services: Services) -> None:
    """Register the callbacks. The browser stores the entries and their previews."""

    @app.callback(Output("try-status", "children"), Input("try-tick", "n_intervals"))
    def show_status(_ticks: int | None) -> Any:
        return [
            html.Div([html.Dt(name), html.Dd(with_code(text))]) for name, text in service_states(services.reader.latest)
        ]

    @app.callback(Output("try-uploaded", "data"), Input("try-images", "data"), prevent_initial_call=True)
    def upload(images: list[dict[str, str]] | None) -> Any:
        return dump_entries(submit(services.gateway, images or [], current_viewer().api_key))

    server: Flask = app.server

    @server.get("/try/events")
    def events() -> Response:
        job_ids = [job_id for job_id in request.args.getlist("job") if is_job_id(job_id)][:_ENTRIES_MAX]
        found = follow(services.gateway, job_ids, current_viewer().api_key)
        return Response(found, mimetype="text/event-stream", headers=_STREAM_HEADERS)

    @app.callback(Output("try-results", "children"), Input("try-entries", "data"))
    def show_results(data: list[dict[str, Any]]) -> Any:
        return [_result(entry) for entry in load_entries(data)]

    chosen = Output("try-images", "data"), Output("try-note", "children")
    in_browser(app, "readImages", *chosen, Input("try-upload", "contents"), State("try-upload", "filename"))
    changes = Input("try-uploaded", "data"), Input("try-updated", "data")
    in_browser(app, "mergeEntries", Output("try-entries", "data"), *changes, State("try-entries", "data"))
    in_browser(app, "followJobs", Input("try-entries", "data"))
    preview = {"type": "preview", "key": ALL}
    in_browser(app, "showPreviews", Output(preview, "src"), Input("try-results", "children"), State(preview, "id"))


PAGE = Page("try", "/try", "Try it", "Upload images and see their predictions.", layout=layout, register=register)


@dataclass(frozen=True, slots=True)
class Entry:
    """An image on the page."""

    #: Identifies its preview in the browser.
    key: str
    name: str
    job_id: str = ""
    #: Status of its job, or `not accepted`.
    status: str = ""
    label: str = ""
    probabilities: Mapping[str, float] | None = None
    #: None if the model does not measure it.
    familiarity: float | None = None
    #: From acceptance to result; None while the job is pending.
    latency_ms: float | None = None
    problem: str = ""
    #: Codes of reasons to doubt the prediction.
    warnings: Sequence[str] = ()

    @property
    def is_pending(self) -> bool:
        """Whether its job is unfinished."""
        return self.status in ("queued", "running")


def submit(gateway: GatewayClient, images: Sequence[Mapping[str, str]], api_key: str) -> list[Entry]:
    """Upload images as the browser sends them: `key`, `name`, and `contents` as a data URL."""
    return [_submit(gateway, image, api_key) for image in images[:_IMAGES_MAX]]


def _submit(gateway: GatewayClient, image: Mapping[str, str], api_key: str) -> Entry:
    entry = Entry(str(image["key"]), str(image["name"]))
    _, _, text = image["contents"].partition(",")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return replace(entry, status="not accepted", problem="The browser sent an invalid file. Choose it again.")
    return _with_answer(entry, gateway.submit(data, entry.name, api_key))


def follow(gateway: GatewayClient, job_ids: Sequence[str], api_key: str) -> Iterator[str]:
    """Server-sent events with the entries of these jobs as they change, without key and name.

    The event `end` says that none of the jobs changes any more. A stream without it was interrupted.
    """
    yield f"retry: {_RETRY_MS}\n\n"
    entries = {job_id: Entry("", "", job_id, "queued") for job_id in job_ids}
    for found in gateway.follow(job_ids, api_key):
        if found is None:
            yield ":\n\n"
            continue
        job_id, answer = found
        entry = entries[job_id] = _with_answer(entries[job_id], answer)
        values = {name: value for name, value in asdict(entry).items() if name not in ("key", "name")}
        yield f"data: {json.dumps(values)}\n\n"
    if not any(entry.is_pending for entry in entries.values()):
        yield "event: end\ndata: {}\n\n"


def _with_answer(entry: Entry, answer: Answer) -> Entry:
    if answer.values is None:
        if entry.is_pending and answer.code == UNAVAILABLE:
            return replace(entry, problem=answer.problem)  # the job is not affected; the browser reconnects
        return replace(entry, status="not accepted", problem=f"{answer.code}: {answer.problem}")
    job = answer.values
    prediction, error = job.get("prediction") or {}, job.get("error") or {}
    return replace(
        entry,
        job_id=str(job["id"]),
        status=str(job["status"]),
        label=str(prediction.get("label", "")),
        probabilities=prediction.get("probabilities"),
        familiarity=prediction.get("familiarity"),
        latency_ms=_latency_ms(job),
        problem=f"{error['code']}: {error['detail']}" if error else "",
        warnings=job.get("warnings") or (),
    )


def _latency_ms(job: Mapping[str, Any]) -> float | None:
    if not job.get("finished_at"):
        return None
    created, finished = (datetime.fromisoformat(str(job[name])) for name in ("created_at", "finished_at"))
    return (finished - created).total_seconds() * 1000


def load_entries(data: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Read the entries that the browser stored. Ignores unknown fields."""
    fields = Entry.__dataclass_fields__
    return [Entry(**{name: value for name, value in row.items() if name in fields}) for row in data[:_ENTRIES_MAX]]


def dump_entries(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Format entries for the browser to store."""
    return [asdict(entry) for entry in entries[:_ENTRIES_MAX]]


def _result(entry: Entry) -> Component:
    inner: list[Any] = [
        html.Img(id={"type": "preview", "key": entry.key}, alt=f"Preview of {entry.name}", className="preview"),
        html.P(entry.name, className="name"),
        html.P([html.Strong(entry.label or entry.status), html.Span(f" {_progress(entry)}")], className="state"),
    ]
    if entry.probabilities:
        labels = [
            html.Div([html.Dt(name), html.Dd(confidence_bar(value))]) for name, value in entry.probabilities.items()
        ]
        inner.append(html.Dl(labels, className="probabilities"))
    if entry.familiarity is not None:
        inner.append(html.P(familiarity_text(entry.familiarity), className="more"))
    inner += warning_list(entry.warnings)
    if entry.problem:
        inner.append(html.P(with_code(entry.problem), className="problem", role="alert"))
    if entry.job_id:
        inner.append(html.P(entry.job_id, className="more id"))
    return html.Li(inner, className="result" if entry.job_id else "result is-not-accepted")


def _progress(entry: Entry) -> str:
    if entry.latency_ms is not None:
        return f"{'succeeded in' if entry.label else 'after'} {milliseconds(entry.latency_ms)}"
    return {"queued": "waiting for a worker", "running": "predicting"}.get(entry.status, "")


def service_states(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(name, state) of the gateway and of the model."""
    gateway, ledger, status = snapshot.gateway, snapshot.ledger, snapshot.status
    if gateway.failed_since_s is not None:
        gateway_state = f"unavailable since {clock(gateway.failed_since_s)}. {gateway.problem}"
    elif ledger.is_down:
        gateway_state = f"not accepting uploads. {ledger.problem}"
    elif not status.is_ready:
        gateway_state = "not accepting uploads. " + " ".join(
            item.detail for item in status.problems if item.blocks_uploads
        )
    else:
        gateway_state = UNKNOWN if gateway.read_at_s is None else "ready"
    models = sorted({f"{worker.model_name}@{worker.model_version}" for worker in snapshot.workers})
    model = UNKNOWN if ledger.is_down or ledger.read_at_s is None else ", ".join(models) or NO_WORKER.detail
    return [("Gateway", gateway_state), ("Model", model)]
