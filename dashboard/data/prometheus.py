"""History from a Prometheus server."""

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx

from contract.ledger.types import Heartbeat
from dashboard.data.quantities import QUANTITIES, Point, Quantity, Series
from dashboard.data.snapshot import Alert, Metrics
from dashboard.data.source import PROMETHEUS, describe

_TIMEOUT = httpx.Timeout(2.0)
_HISTORY_S = 3600
_STEP_S = 30


class PrometheusSource:
    """Reads the history of all quantities with range queries, and the firing alerts."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._metrics = Metrics({}, {"gateway": PROMETHEUS, "workers": PROMETHEUS}, (), _HISTORY_S)

    def read(self, now_s: float, workers: Sequence[Heartbeat]) -> Metrics:
        """Read the history up to now. After a failure, returns the previous one with its source marked as failed."""
        del workers  # Prometheus discovers its own targets
        state = self._metrics.sources["gateway"]
        try:
            series = {quantity.name: self._range(quantity, now_s) for quantity in QUANTITIES}
            alerts = self._alerts()
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            state = state.failed(now_s, describe(state, error))
            series, alerts = dict(self._metrics.series), self._metrics.alerts or ()
        else:
            state = state.succeeded(now_s)
        self._metrics = Metrics(series, {"gateway": state, "workers": state}, alerts, _HISTORY_S)
        return self._metrics

    def _range(self, quantity: Quantity, now_s: float) -> tuple[Series, ...]:
        history_s = 0 if quantity.kind == "buckets" else _HISTORY_S
        query = {"query": quantity.promql(), "start": now_s - history_s, "end": now_s, "step": _STEP_S}
        rows = self._get("/api/v1/query_range", query)["result"]
        return tuple(Series(tuple(sorted(row["metric"].items())), _points(row["values"])) for row in rows)

    def _alerts(self) -> tuple[Alert, ...]:
        rows = self._get("/api/v1/alerts", {})["alerts"]
        return tuple(parse_alert(row) for row in rows if row["state"] == "firing")

    def _get(self, path: str, query: dict[str, Any]) -> Any:
        response = self._client.get(path, params=query)
        response.raise_for_status()
        return response.json()["data"]


def parse_alert(row: dict[str, Any]) -> Alert:
    """Parse an alert of the Prometheus API."""
    labels, notes = row.get("labels", {}), row.get("annotations", {})
    name = labels.get("alertname", "")
    summary = notes.get("summary") or notes.get("description") or ""
    return Alert(name, labels.get("severity", ""), summary, _seconds(row.get("activeAt", "")))


def _points(values: Sequence[tuple[float, str]]) -> tuple[Point, ...]:
    return tuple((float(at_s), _value(text)) for at_s, text in values)


def _value(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(re.sub(r"\.\d+", "", text)).timestamp()
    except ValueError:
        return 0.0
