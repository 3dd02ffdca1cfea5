"""Redis outages: gateway and worker report them, and the same processes continue afterwards."""

from collections.abc import Iterator

import httpx
import pytest
import redis

from contract.ledger import keys
from tests.chaos.cluster import Cluster
from tests.chaos.outages import Outage, put, watch_outage
from tests.support.services import free_port, wait_until

#: Generous limits for busy machines; docs/guarantees.md lists the times measured on an idle one.
_REFUSED_WITHIN_S = 6.0
_BACK_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = {"PAWQUEUE_WORKER_METRICS_PORT": str(free_port())}
    with Cluster(tmp_path_factory.mktemp("outages"), 1, settings, points=[]) as cluster:
        yield cluster


def is_short(outage: Outage) -> bool:
    return outage.longest_refusal_s < _REFUSED_WITHIN_S and outage.finished_after_s < _BACK_WITHIN_S


@pytest.mark.slow
def test_a_starting_worker_is_alive_but_not_ready(cluster: Cluster) -> None:
    wait_until(lambda: cluster.get_from_worker("/healthz")[0] == 200, "the worker to respond")
    status, text = cluster.get_from_worker("/readyz")
    assert (status, text) == (503, "The model is being loaded.\n")
    wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 200, "the worker to be ready")
    assert cluster.get_from_worker("/metrics")[0] == 200


@pytest.mark.timeout(240)
def test_a_killed_redis_is_reported_promptly_and_the_service_recovers(cluster: Cluster) -> None:
    wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 200, "the worker to be ready")
    seen: list[tuple[int, list[int], int]] = []

    def bring_up() -> None:
        wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 503, "the worker to report the outage", 30)
        gateway = [httpx.get(f"{cluster.url}{path}", timeout=30).status_code for path in ("/healthz", "/readyz")]
        seen.append((cluster.get_from_worker("/healthz")[0], gateway, cluster.workers[0].starts))
        cluster.redis.bring_up()

    with httpx.Client(base_url=cluster.url, timeout=60) as http:
        outage = watch_outage(http, cluster.redis.take_down, bring_up, length_s=3)
    assert is_short(outage), outage
    assert seen == [(200, [200, 503], 1)]
    assert cluster.workers[0].starts == 1
    wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 200, "the worker to be ready again")


@pytest.mark.timeout(240)
def test_a_connection_that_drops_all_packets_is_reported_and_the_service_recovers(cluster: Cluster) -> None:
    wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 200, "the worker to be ready")
    with httpx.Client(base_url=cluster.url, timeout=60) as http:
        outage = watch_outage(http, cluster.proxy.cut, cluster.proxy.restore, length_s=4)
    assert is_short(outage), outage
    assert cluster.workers[0].starts == 1


def test_a_stopped_worker_is_no_longer_listed(cluster: Cluster) -> None:
    wait_until(lambda: cluster.get_from_worker("/readyz")[0] == 200, "the worker to be ready")
    assert cluster.workers[0].stop() == 0
    with redis.Redis.from_url(cluster.redis_url) as client:
        assert client.hlen(keys.WORKERS) == 0
    with httpx.Client(base_url=cluster.url, timeout=60) as http:
        assert put(http, "0197a3c2-0000-7000-8000-000000000000").status_code == 202
        assert http.get("/v1/status").json()["workers"] == []
