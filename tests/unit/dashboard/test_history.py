"""History from `/metrics` and from Prometheus: rates, quantiles, restarts, gaps and failures."""

import json
from typing import Any

import httpx
import pytest

from contract.status import NO_WORKER
from dashboard.data.prometheus import PrometheusSource, parse_alert
from dashboard.data.quantities import QUANTITIES
from dashboard.data.scrape import History, ScrapeSource, parse, quantile
from dashboard.data.snapshot import Metrics
from dashboard.data.source import GATEWAY, GATEWAY_METRICS, PROMETHEUS, WORKERS, SourceState, describe
from tests.unit.dashboard.conftest import NOW, FakeServer, heartbeat, labels

TEXT = """# TYPE pawqueue_jobs counter
pawqueue_jobs_total{queue="bulk",status="succeeded",label="cat"} %d
# TYPE pawqueue_queue_jobs gauge
pawqueue_queue_jobs{queue="bulk",state="queued"} %d
# TYPE process_cpu_seconds counter
process_cpu_seconds_total 3
"""
WORKER = """# TYPE pawqueue_worker_images counter
pawqueue_worker_images_total %d
# TYPE pawqueue_worker_busy_ratio gauge
pawqueue_worker_busy_ratio 0.5
"""


def gateway(done: int, waiting: int = 0) -> dict[str, Any]:
    return {"gateway": {"g": parse(TEXT % (done, waiting))}}


def last(history: History, name: str) -> dict[Any, Any]:
    return {line.labels: line.last for line in history.series()[name]}


def test_only_samples_that_the_dashboard_shows_are_kept() -> None:
    assert {name for name, _ in parse(TEXT % (1, 2))} == {"pawqueue_jobs_total", "pawqueue_queue_jobs"}
    with pytest.raises(ValueError, match=r"\S"):
        parse("<html>")


def test_rates_cover_a_minute_and_accepted_jobs_follow_from_finished_and_queued_ones() -> None:
    history = History()
    for at in range(14):
        history.add(NOW + 10 * at, gateway(done=20 * at, waiting=10 * at))
    assert last(history, "finished") == {labels(status="succeeded"): 2.0}
    assert last(history, "accepted") == {(): 3.0}
    assert last(history, "jobs") == {labels(queue="bulk", state="queued"): 130}
    assert len(history.series()["finished"][0].points) == 13  # the first reading gives no rate


_TWO_MODELS = """# TYPE pawqueue_jobs counter
pawqueue_jobs_total{{model="birds",queue="bulk",status="succeeded",label="owl"}} {birds}
pawqueue_jobs_total{{model="cats-dogs",queue="bulk",status="succeeded",label="cat"}} {cats}
# TYPE pawqueue_queue_jobs gauge
pawqueue_queue_jobs{{model="birds",queue="bulk",state="queued"}} {birds}
"""
_SECONDS = """# TYPE pawqueue_job_seconds histogram
pawqueue_job_seconds_bucket{{model="birds",queue="bulk",phase="total",le="1.0"}} {count}
pawqueue_job_seconds_bucket{{model="birds",queue="bulk",phase="total",le="+Inf"}} {count}
# TYPE pawqueue_batch_size histogram
pawqueue_batch_size_bucket{{model="birds",le="8.0"}} {count}
pawqueue_batch_size_sum{{model="birds"}} {size}
pawqueue_batch_size_count{{model="birds"}} {count}
"""


def test_quantities_are_also_computed_for_each_model() -> None:
    history = History()
    for at in range(2):
        gateways = {"g": parse(_TWO_MODELS.format(birds=10 * at, cats=30 * at))}
        workers = {"w": parse(_SECONDS.format(count=4 * at, size=32 * at))}
        history.add(NOW + 10 * at, {"gateway": gateways, "workers": workers})
    assert last(history, "finished") == {labels(status="succeeded"): 4.0}
    assert last(history, "finished_by_model") == {
        labels(model="birds", status="succeeded"): 1.0,
        labels(model="cats-dogs", status="succeeded"): 3.0,
    }
    assert last(history, "accepted_by_model") == {labels(model="birds"): 2.0, labels(model="cats-dogs"): 3.0}
    assert last(history, "batch_mean_by_model") == {labels(model="birds"): 8.0}
    assert last(history, "p50_by_model") == {labels(model="birds"): 0.5}
    of_birds = Metrics(history.series()).of_model("birds")
    assert {line.labels: line.last for line in of_birds.of("finished")} == {labels(status="succeeded"): 1.0}
    assert {line.labels: line.last for line in of_birds.of("batch_mean")} == {(): 8.0}


def test_a_restarted_counter_gives_no_negative_rate() -> None:
    history = History()
    history.add(NOW, {"workers": {"a": parse(WORKER % 1000)}})
    history.add(NOW + 10, {"workers": {"a": parse(WORKER % 50), "b": parse(WORKER % 999_999)}})
    assert last(history, "images") == {labels(instance="a"): 5.0}  # a new target has no earlier value


def test_a_source_that_does_not_respond_leaves_a_gap_until_its_history_expires() -> None:
    history = History()
    history.add(NOW, gateway(1, 5))
    for at in range(1, 4):
        history.add(NOW + at, {})
    (line,) = history.series()["jobs"]
    assert [value for _, value in line.points] == [5, None]
    for at in range(300):
        history.add(NOW + 10 * at, {})
    assert history.series()["jobs"] == ()


@pytest.mark.parametrize(
    ("share", "buckets", "expected"),
    [
        (0.5, [(1.0, 10), (2.0, 20), (float("inf"), 20)], 1.0),
        (0.95, [(1.0, 0), (2.0, 100), (float("inf"), 100)], 1.95),
        (0.99, [(1.0, 1), (float("inf"), 100)], 1.0),
        (0.5, [(1.0, 0), (float("inf"), 0)], None),
        (0.5, [], None),
    ],
)
def test_quantiles_are_computed_as_in_prometheus(share: float, buckets: Any, expected: float | None) -> None:
    assert quantile(share, buckets) == (None if expected is None else pytest.approx(expected))


def test_failures_of_gateway_and_workers_are_reported_independently() -> None:
    server = FakeServer({"/metrics": httpx.ConnectError("refused")})
    source = ScrapeSource("http://gateway/metrics", server.transport)
    found = source.read(NOW, [])
    assert found.sources["gateway"].failed_since_s == NOW
    assert found.sources["workers"].problem == NO_WORKER.detail

    server.responses["/metrics"] = httpx.Response(200, text=TEXT % (1, 2))
    found = source.read(NOW + 5, [heartbeat()])
    assert {state.failed_since_s for state in found.sources.values()} == {None}

    server.responses["/metrics"] = httpx.Response(404)
    found = source.read(NOW + 10, [heartbeat()])
    state = found.sources["gateway"]
    assert (state.read_at_s, state.failed_since_s) == (NOW + 5, NOW + 10)
    assert "PAWQUEUE_GATEWAY_METRICS_PORT" in state.problem
    assert (
        source.read(NOW + 15, [heartbeat()]).sources["gateway"].failed_since_s == NOW + 10
    )  # the time of the first failure


def test_a_gateway_without_redis_is_reported_as_failed() -> None:
    server = FakeServer()
    server.responses["/metrics"] = httpx.Response(200, text="# TYPE pawqueue_ledger_up gauge\npawqueue_ledger_up 0\n")
    found = ScrapeSource("http://gateway/metrics", server.transport).read(NOW, [])
    assert "no connection to Redis" in found.sources["gateway"].problem


def prometheus(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/api/v1/alerts":
        rows = [{"state": state, "labels": {"alertname": state}, "annotations": {}} for state in ("firing", "pending")]
        return httpx.Response(200, json={"data": {"alerts": rows}})
    row = {"metric": {"queue": "bulk"}, "values": [[NOW - 30, "1"], [NOW, "NaN"]]}
    return httpx.Response(200, json={"data": {"result": [row]}})


def test_prometheus_provides_every_quantity_and_the_firing_alerts() -> None:
    found = PrometheusSource("http://p", httpx.MockTransport(prometheus)).read(NOW, [])
    assert found.series.keys() == {quantity.name for quantity in QUANTITIES}
    assert found.series["oldest"][0].points == ((NOW - 30, 1.0), (NOW, None))
    assert found.alerts
    assert [alert.name for alert in found.alerts] == ["firing"]


@pytest.mark.parametrize(
    "response", [httpx.Response(503), httpx.Response(200, text="<html>"), httpx.Response(200, json=[1])]
)
def test_the_last_history_is_kept_when_prometheus_fails(response: httpx.Response) -> None:
    fails = False
    transport = httpx.MockTransport(lambda request: response if fails else prometheus(request))
    source = PrometheusSource("http://user:secret@p", transport)
    before = source.read(NOW, [])
    fails = True
    after = source.read(NOW + 5, [])
    assert after.series == before.series
    state = after.sources["gateway"]
    assert (state.read_at_s, state.failed_since_s) == (NOW, NOW + 5)
    assert "secret" not in json.dumps(state.problem)


def test_an_alert_without_a_valid_time_is_kept() -> None:
    assert parse_alert({"labels": {"alertname": "x"}, "activeAt": "nonsense"}).since_s == 0
    assert parse_alert({"labels": {}, "activeAt": "1970-01-01T00:01:00.123456789Z"}).since_s == 60


REFUSED = httpx.ConnectError("Connection refused")


def status_error(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://user:secret@host/metrics")
    return httpx.HTTPStatusError("failed", request=request, response=httpx.Response(status))


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (GATEWAY, REFUSED, "The gateway does not respond. Check that it is running and that its address"),
        (GATEWAY, REFUSED, "(PAWQUEUE_GATEWAY_URL)"),
        (GATEWAY_METRICS, status_error(404), "its address (PAWQUEUE_GATEWAY_METRICS_PORT)"),
        (PROMETHEUS, status_error(401), "Prometheus responds with status 401. Check its log"),
        (PROMETHEUS, ValueError("no JSON"), "unexpected response. Check that its address (PAWQUEUE_PROMETHEUS_URL)"),
        (WORKERS, REFUSED, "The workers' metrics endpoint does not respond."),
    ],
)
def test_a_failure_names_the_source_and_the_setting_to_check(source: SourceState, error: Exception, text: str) -> None:
    assert text in describe(source, error)
    assert "secret" not in describe(source, error)
