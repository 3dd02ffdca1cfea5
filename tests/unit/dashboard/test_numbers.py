"""Numbers out of `/metrics` and out of Prometheus: rates, quantiles, restarts, gaps, failures."""

import json
from typing import Any

import httpx
import pytest

from dashboard.capacity import capacity_of
from dashboard.quantities import QUANTITIES
from dashboard.scrape import History, parse, quantile
from dashboard.sources import PrometheusSource, ScrapeSource, alert_of
from tests.unit.dashboard.conftest import NOW, World, beat, labels, series

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


def test_only_what_is_shown_is_kept_of_a_text() -> None:
    assert {name for name, _ in parse(TEXT % (1, 2))} == {"pawqueue_jobs_total", "pawqueue_queue_jobs"}
    with pytest.raises(ValueError, match=r"\S"):
        parse("<html>")


def test_rates_are_taken_over_a_minute_and_what_came_in_from_what_ended_and_waits() -> None:
    history = History()
    for at in range(14):
        history.add(NOW + 10 * at, gateway(done=20 * at, waiting=10 * at))
    assert last(history, "ended") == {labels(status="succeeded"): 2.0}
    assert last(history, "accepted") == {(): 3.0}
    assert last(history, "jobs") == {labels(queue="bulk", state="queued"): 130}
    assert len(history.series()["ended"][0].points) == 13  # no rate without a past


def test_a_counter_that_began_again_is_no_negative_rate() -> None:
    history = History()
    history.add(NOW, {"workers": {"a": parse(WORKER % 1000)}})
    history.add(NOW + 10, {"workers": {"a": parse(WORKER % 50), "b": parse(WORKER % 999_999)}})
    assert last(history, "images") == {labels(instance="a"): 5.0}  # and one that has only come has no past


def test_silence_is_a_gap_and_then_nothing() -> None:
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
def test_quantiles_are_reckoned_as_prometheus_does(share: float, buckets: Any, expected: float | None) -> None:
    assert quantile(share, buckets) == (None if expected is None else pytest.approx(expected))


def test_gateway_and_workers_fail_apart() -> None:
    world = World()
    world.answers = {"/metrics": httpx.ConnectError("refused")}
    source = ScrapeSource("http://gateway", httpx.MockTransport(world.answer))
    found = source.read(NOW, [])
    assert found.sources["gateway"].failed_since_s == NOW
    assert "No worker" in found.sources["workers"].problem

    world.answers["/metrics"] = httpx.Response(200, text=TEXT % (1, 2))
    found = source.read(NOW + 5, [beat()])
    assert {state.failed_since_s for state in found.sources.values()} == {None}

    world.answers["/metrics"] = httpx.Response(401)
    found = source.read(NOW + 10, [beat()])
    state = found.sources["gateway"]
    assert (state.read_at_s, state.failed_since_s) == (NOW + 5, NOW + 10)
    assert "PAWQUEUE_METRICS_KEY" in state.problem
    assert source.read(NOW + 15, [beat()]).sources["gateway"].failed_since_s == NOW + 10  # since then, not since now


def test_the_key_for_metrics_goes_to_the_gateway_alone() -> None:
    world = World()
    world.answers["/metrics"] = httpx.Response(200, text=TEXT % (1, 2))
    ScrapeSource("http://gateway", httpx.MockTransport(world.answer), "secret").read(NOW, [beat()])
    sent = {request.url.host: request.headers.get("Authorization") for request in world.requests}
    assert sent.pop("gateway") == "Bearer secret"
    assert set(sent.values()) == {None}


def test_a_gateway_without_its_ledger_tells_no_zeros() -> None:
    world = World()
    world.answers["/metrics"] = httpx.Response(200, text="# TYPE pawqueue_ledger_up gauge\npawqueue_ledger_up 0\n")
    found = ScrapeSource("http://gateway", httpx.MockTransport(world.answer)).read(NOW, [])
    assert "its ledger (Redis) does not" in found.sources["gateway"].problem


def prometheus(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/api/v1/alerts":
        rows = [{"state": state, "labels": {"alertname": state}, "annotations": {}} for state in ("firing", "pending")]
        return httpx.Response(200, json={"data": {"alerts": rows}})
    row = {"metric": {"queue": "bulk"}, "values": [[NOW - 30, "1"], [NOW, "NaN"]]}
    return httpx.Response(200, json={"data": {"result": [row]}})


def test_prometheus_is_asked_for_each_quantity_and_for_alerts() -> None:
    found = PrometheusSource("http://p", httpx.MockTransport(prometheus)).read(NOW, [])
    assert found.series.keys() == {quantity.name for quantity in QUANTITIES}
    assert found.series["oldest"][0].points == ((NOW - 30, 1.0), (NOW, None))
    assert found.alerts
    assert [alert.name for alert in found.alerts] == ["firing"]


@pytest.mark.parametrize(
    "answer", [httpx.Response(503), httpx.Response(200, text="<html>"), httpx.Response(200, json=[1])]
)
def test_a_prometheus_that_fails_keeps_what_it_said(answer: httpx.Response) -> None:
    fails = False
    transport = httpx.MockTransport(lambda request: answer if fails else prometheus(request))
    source = PrometheusSource("http://user:secret@p", transport)
    before = source.read(NOW, [])
    fails = True
    after = source.read(NOW + 5, [])
    assert after.series == before.series
    state = after.sources["gateway"]
    assert (state.read_at_s, state.failed_since_s) == (NOW, NOW + 5)
    assert "secret" not in json.dumps(state.problem)


def test_an_alert_without_a_time_is_still_an_alert() -> None:
    assert alert_of({"labels": {"alertname": "x"}, "activeAt": "nonsense"}).since_s == 0
    assert alert_of({"labels": {}, "activeAt": "1970-01-01T00:01:00.123456789Z"}).since_s == 60


def test_a_worker_s_limit_is_seen_under_load_and_else_estimated() -> None:
    images, busy = series(10, 30, 10, instance="w"), series(0.25, 0.75, 0.01, instance="w")
    idle = capacity_of({"images": (images,), "busy": (busy,)}, 2)
    assert (idle.limit_per_worker, idle.is_seen, idle.limit_per_s) == (40.0, False, 80.0)
    moment = series(0, 7, 0, queue="bulk", state="queued")
    assert not capacity_of({"images": (images,), "busy": (busy,), "jobs": (moment,)}, 2).is_seen
    waiting = series(*[7] * 13, queue="bulk", state="queued")
    full = capacity_of({"images": (series(*[50] * 12, 30, instance="w"),), "busy": (busy,), "jobs": (waiting,)}, 2)
    assert (full.limit_per_worker, full.is_seen) == (30.0, True)  # 50 was done before the minute was full
    assert capacity_of({}, 0).wanted is None
