"""Where numbers come from: Prometheus, or `/metrics` of gateway and workers."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from contract.ledger.types import Heartbeat
from dashboard.quantities import DISTRIBUTION_S, QUANTITIES, Point, Quantity, Series
from dashboard.scrape import HISTORY_S, History, Samples, Targets, parse
from dashboard.snapshot import Alert, Numbers, SourceState
from dashboard.text import count

_TIMEOUT = httpx.Timeout(2.0)
_PROMETHEUS_HISTORY_S = 3600
_PROMETHEUS_STEP_S = 30
_SCRAPES_AT_ONCE = 8
_NO_ANSWER = "It does not answer; see that it runs and that its address is right."


class NumberSource(ABC):
    """Tells numbers; it never raises, but says in their states what is wrong."""

    @abstractmethod
    def read(self, now_s: float, workers: Sequence[Heartbeat]) -> Numbers:
        """Look once."""


class PrometheusSource(NumberSource):
    """Asks Prometheus over HTTP, by range queries."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=_TIMEOUT, transport=transport, trust_env=False)
        state = SourceState("Prometheus")
        self._numbers = Numbers({}, {"gateway": state, "workers": state}, (), _PROMETHEUS_HISTORY_S)

    def read(self, now_s: float, workers: Sequence[Heartbeat]) -> Numbers:
        del workers  # Prometheus finds them by itself
        state = self._numbers.sources["gateway"]
        try:
            series = {quantity.name: self._range(quantity, now_s) for quantity in QUANTITIES}
            alerts = self._alerts()
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            state = state.failed(now_s, problem_of(error))
            series, alerts = dict(self._numbers.series), self._numbers.alerts or ()
        else:
            state = state.answered(now_s)
        self._numbers = Numbers(series, {"gateway": state, "workers": state}, alerts, _PROMETHEUS_HISTORY_S)
        return self._numbers

    def _range(self, quantity: Quantity, now_s: float) -> tuple[Series, ...]:
        history_s = 0 if quantity.kind == "buckets" else _PROMETHEUS_HISTORY_S
        query = {"query": quantity.promql(), "start": now_s - history_s, "end": now_s, "step": _PROMETHEUS_STEP_S}
        rows = self._ask("/api/v1/query_range", query)["result"]
        return tuple(Series(tuple(sorted(row["metric"].items())), _points(row["values"])) for row in rows)

    def _alerts(self) -> tuple[Alert, ...]:
        rows = self._ask("/api/v1/alerts", {})["alerts"]
        return tuple(alert_of(row) for row in rows if row["state"] == "firing")

    def _ask(self, path: str, query: dict[str, Any]) -> Any:
        answer = self._client.get(path, params=query)
        answer.raise_for_status()
        return answer.json()["data"]


def _points(values: Sequence[tuple[float, str]]) -> tuple[Point, ...]:
    return tuple((float(at_s), _value(text)) for at_s, text in values)


def _value(text: str) -> float | None:
    value = float(text)
    return value if value - value == 0 else None  # neither NaN nor infinite


def alert_of(row: dict[str, Any]) -> Alert:
    """An alert as Prometheus tells it."""
    labels, notes = row.get("labels", {}), row.get("annotations", {})
    name = labels.get("alertname", "")
    summary = notes.get("summary") or notes.get("description") or ""
    return Alert(name, labels.get("severity", ""), summary, _seconds(row.get("activeAt", "")))


def _seconds(text: str) -> float:
    from datetime import datetime  # noqa: PLC0415

    try:
        return datetime.fromisoformat(re.sub(r"\.\d+", "", text)).timestamp()
    except ValueError:
        return 0.0


class ScrapeSource(NumberSource):
    """Reads `/metrics` of the gateway and of every worker that has a heartbeat, and keeps a short history."""

    def __init__(self, gateway_url: str, transport: httpx.BaseTransport | None = None, api_key: str = "") -> None:
        self._gateway_url = gateway_url
        #: For the gateway alone; workers ask for none.
        self._credential = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(timeout=_TIMEOUT, transport=transport, trust_env=False)
        self._history = History()
        self._sources = {"gateway": SourceState("The gateway"), "workers": SourceState("Metrics of workers")}
        self._threads = ThreadPoolExecutor(_SCRAPES_AT_ONCE, thread_name_prefix="scrape")

    def read(self, now_s: float, workers: Sequence[Heartbeat]) -> Numbers:
        found = {}
        for name, addresses in (("gateway", [f"{self._gateway_url}/metrics"]), ("workers", _addresses(workers))):
            answers = dict(zip(addresses, self._threads.map(self._scrape, addresses), strict=True))
            targets: Targets = {url: answer for url, answer in answers.items() if not isinstance(answer, str)}
            problem = next((answer for answer in answers.values() if isinstance(answer, str)), "")
            if targets:
                found[name] = targets
            self._sources[name] = self._judge(name, now_s, len(targets), problem)
        self._history.add(now_s, found)
        return Numbers(self._history.series(), dict(self._sources), None, HISTORY_S)

    def _judge(self, name: str, now_s: float, answered: int, problem: str) -> SourceState:
        if answered:
            return self._sources[name].answered(now_s)
        return self._sources[name].failed(now_s, problem or "No worker with an address of metrics has a heartbeat.")

    def _scrape(self, url: str) -> Samples | str:
        """What a target says, or why it is not known."""
        try:
            is_gateway = url.startswith(f"{self._gateway_url}/")
            answer = self._client.get(url, headers=self._credential if is_gateway else {})
            answer.raise_for_status()
            return _with_ledger(parse(answer.text))
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return problem_of(error)


def _with_ledger(samples: Samples) -> Samples:
    if samples.get(("pawqueue_ledger_up", ()), 1.0) == 0:
        raise ValueError("It answers, but its ledger (Redis) does not.")
    return samples


def _addresses(workers: Sequence[Heartbeat]) -> list[str]:
    # Port 0 in the table of settings: such a worker serves its metrics on a port of the system's choice.
    return [worker.metrics_address for worker in workers if worker.metrics_address]


def problem_of(error: Exception) -> str:
    """What went wrong with a source, for people; addresses may hold passwords and are left out."""
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (401, 403):
        return "It asks for an API key: set PAWQUEUE_METRICS_KEY to one with the scope `read`."
    if isinstance(error, httpx.HTTPStatusError):
        return f"It answers with the status {error.response.status_code}."
    if isinstance(error, httpx.HTTPError):
        return _NO_ANSWER
    if isinstance(error, ValueError) and str(error).startswith("It "):
        return str(error)
    return "It answers with something else than was asked for; see that the address is right."


def window_text(quantity: Quantity) -> str:
    """The window of a quantity in words."""
    seconds = {"gauge": 0, "rate": 60, "accepted": 60}.get(quantity.kind, DISTRIBUTION_S)
    return f"over {count(seconds / 60, 'minute', 'minutes')}" if seconds else "now"
