"""The page Try it: images are sent through the gateway, as anybody else would."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dash import dcc, html
from dash.development.base_component import Component

from dashboard.gallery import bar
from dashboard.gateway_client import Answer, GatewayClient
from dashboard.snapshot import Snapshot
from dashboard.text import clock, milliseconds

#: More at once is a folder: `pawqueue submit`.
IMAGES_MAX = 20
#: Images that stay on the page.
SHOWN_MAX = 60


@dataclass(frozen=True, slots=True)
class Entry:
    """An image on the page; `key` finds its preview, which never leaves the browser twice."""

    key: str
    name: str
    job_id: str = ""
    status: str = ""
    label: str = ""
    probabilities: Mapping[str, float] | None = None
    took_ms: float | None = None
    problem: str = ""

    @property
    def is_open(self) -> bool:
        """Whether its job may still change."""
        return self.status in ("queued", "running")


def sent(gateway: GatewayClient, images: Sequence[Mapping[str, str]], api_key: str) -> list[Entry]:
    """Send images as the browser gives them (`key`, `name`, `contents` as a data URL)."""
    return [_send(gateway, image, api_key) for image in images[:IMAGES_MAX]]


def _send(gateway: GatewayClient, image: Mapping[str, str], api_key: str) -> Entry:
    entry = Entry(str(image["key"]), str(image["name"]))
    _, _, text = image["contents"].partition(",")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return replace(entry, status="refused", problem="The browser sent something that is no file.")
    return told(entry, gateway.submit(data, entry.name, api_key))


def followed(gateway: GatewayClient, entries: Sequence[Entry], api_key: str) -> list[Entry]:
    """Ask how open jobs are doing."""
    return [told(entry, gateway.job(entry.job_id, api_key)) if entry.is_open else entry for entry in entries]


def told(entry: Entry, answer: Answer) -> Entry:
    """An entry with what the gateway says of it, in its own words."""
    if answer.job is None:
        if entry.is_open and answer.code == "unavailable":
            return replace(entry, problem=answer.problem)  # the job goes on; it is asked for again
        return replace(entry, status="refused", problem=f"{answer.code}: {answer.problem}")
    job = answer.job
    prediction, error = job.get("prediction") or {}, job.get("error") or {}
    return replace(
        entry,
        job_id=str(job["id"]),
        status=str(job["status"]),
        label=str(prediction.get("label", "")),
        probabilities=prediction.get("probabilities"),
        took_ms=took_ms(job),
        problem=f"{error['code']}: {error['detail']}" if error else "",
    )


def took_ms(job: Mapping[str, Any]) -> float | None:
    """From acceptance to the end; None before it has ended."""
    from datetime import datetime  # noqa: PLC0415

    if not job.get("finished_at"):
        return None
    started, ended = (datetime.fromisoformat(str(job[name])) for name in ("created_at", "finished_at"))
    return (ended - started).total_seconds() * 1000


def entries_of(data: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Read what a browser has kept; fields of its own invention are left out."""
    fields = Entry.__dataclass_fields__
    return [Entry(**{name: value for name, value in row.items() if name in fields}) for row in data[:SHOWN_MAX]]


def data_of(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What the browser is to keep, newest first."""
    return [asdict(entry) for entry in entries[:SHOWN_MAX]]


def result(entry: Entry) -> Component:
    """An image and what became of it."""
    inner: list[Any] = [
        html.Img(id={"type": "preview", "key": entry.key}, alt=f"Preview of {entry.name}", className="preview"),
        html.P(entry.name, className="name"),
        html.P([html.Strong(entry.label or entry.status), html.Span(f" {_state(entry)}")], className="state"),
    ]
    if entry.probabilities:
        columns = [html.Div([html.Dt(name), html.Dd(bar(value))]) for name, value in entry.probabilities.items()]
        inner.append(html.Dl(columns, className="probabilities"))
    if entry.problem:
        inner.append(html.P(entry.problem, className="problem", role="alert"))
    if entry.job_id:
        inner.append(html.P(entry.job_id, className="more id"))
    return html.Li(inner, className=f"result is-{entry.status}")


def _state(entry: Entry) -> str:
    if entry.took_ms is not None:
        return f"{entry.status} in {milliseconds(entry.took_ms)}"
    return "waiting for a worker" if entry.status == "queued" else "being predicted" if entry.is_open else ""


def service_status(snapshot: Snapshot) -> list[Component]:
    """How API and model are doing, in words."""
    gateway, health = snapshot.gateway, snapshot.health
    if gateway.failed_since_s is not None:
        rows = [
            ("API", f"unreachable since {clock(gateway.failed_since_s)}. {gateway.problem}"),
            ("Model", "not known"),
        ]
    elif gateway.read_at_s is None:
        rows = [("API", "not asked yet"), ("Model", "not asked yet")]
    else:
        loaded = "ready" if health.get("model_loaded") else "no worker serves one: images wait"
        names = sorted({f"{worker.model_name} {worker.model_version}" for worker in snapshot.workers})
        rows = [
            ("API", f"{health.get('status', 'unknown')}, version {health.get('version', 'unknown')}"),
            ("Model", ", ".join([loaded, *names]) if health.get("model_loaded") else loaded),
        ]
    return [html.Div([html.Dt(name), html.Dd(text)]) for name, text in rows]


def try_page() -> Component:
    """Where images are dropped, and what has become of them."""
    drop = dcc.Upload(
        id="try-upload",
        children=html.Div(
            [
                html.Button("Choose images", type="button", className="button"),
                html.Span(f"or drop up to {IMAGES_MAX} of them here: JPG, JPEG, PNG, WebP"),
            ],
            className="drop",
        ),
        multiple=True,
        className="upload",
        className_active="upload is-active",
    )
    return html.Div(
        [
            html.Dl(id="try-status", className="services"),
            drop,
            html.P(id="try-note", role="status", className="note"),
            html.Ul(id="try-results", className="results"),
            dcc.Store(id="try-sent"),
            dcc.Store(id="try-added"),
            dcc.Store(id="try-told"),
            dcc.Store(id="try-entries", data=[]),
            dcc.Interval(id="try-poll", interval=500, disabled=True),
        ]
    )
