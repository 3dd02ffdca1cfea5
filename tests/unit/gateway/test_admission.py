"""Admission control: uploads are refused before Redis is full, and `Retry-After` is estimated."""

from collections.abc import Iterator

import pytest
import redis

from contract.access import Scope, make_key
from contract.job import Job, new_job_id
from contract.ledger.ledger import Ledger
from gateway.accept.admission import Admission
from tests.support.archives import tar_of
from tests.support.images import draw
from tests.support.ledger import store
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem, upload

IMAGE = draw()


@pytest.fixture
def server(clean_redis: str) -> Iterator["redis.Redis"]:
    """A Redis client; the memory settings are restored after the test."""
    with redis.Redis.from_url(clean_redis) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def used_bytes(server: "redis.Redis") -> int:
    return int(server.info("memory")["used_memory"])  # type: ignore[index]  # the client is synchronous


def with_rate(make_gateway: MakeGateway, finished: int) -> Gateway:
    """A gateway where `finished` jobs have finished within ten seconds."""
    now_s = [0.0]
    gateway = make_gateway(clock=lambda: now_s[0])
    gateway.services.admission.sample()
    gateway.finish([upload(gateway, IMAGE).get_json()["id"] for _ in range(finished)])
    now_s[0] = 10.0
    gateway.services.admission.sample()
    return gateway


def test_a_queued_job_shows_its_position(gateway: Gateway) -> None:
    urls = [upload(gateway, IMAGE).headers["Location"] for _ in range(3)]
    jobs = [gateway.client.get(url).get_json() for url in urls]
    assert [job["queue_position"] for job in jobs] == [0, 1, 2]
    assert jobs[0]["estimated_wait_s"] is None


def test_the_waiting_time_is_estimated_from_the_processing_rate(make_gateway: MakeGateway) -> None:
    gateway = with_rate(make_gateway, finished=1)
    urls = [upload(gateway, IMAGE).headers["Location"] for _ in range(3)]
    last = gateway.client.get(urls[2])
    assert last.get_json()["estimated_wait_s"] == 30.0
    assert last.headers["Retry-After"] == "30"


def test_a_full_queue_returns_an_estimated_retry_after(make_gateway: MakeGateway) -> None:
    gateway = with_rate(make_gateway, finished=10)
    for _ in range(50):
        upload(gateway, IMAGE)
    assert upload(gateway, IMAGE).headers["Retry-After"] == "33"


def test_a_full_ledger_refuses_uploads_before_anything_is_stored(
    make_gateway: MakeGateway, server: "redis.Redis"
) -> None:
    gateway = make_gateway(ledger_max_bytes="10000000")
    server.set("ballast", bytes(12_000_000))
    gateway.services.admission.sample()
    response = upload(gateway, IMAGE)
    assert_problem(response, 503, "unavailable")
    assert int(response.headers["Retry-After"]) > 1
    assert not gateway.image_count()


def test_a_full_ledger_records_no_rejected_images(make_gateway: MakeGateway, server: "redis.Redis") -> None:
    gateway = make_gateway(ledger_max_bytes="10000000")
    url = gateway.client.post("/v1/submissions", json={}).get_json()["urls"]["self"]
    server.set("ballast", bytes(12_000_000))
    gateway.services.admission.sample()
    archive = tar_of({f"{n}.txt": b"not an image" for n in range(3)})
    response = gateway.client.post(f"{url}/jobs", data=archive, content_type="application/x-tar")
    assert_problem(response, 503, "unavailable")
    assert gateway.client.get(url).get_json()["counts"]["rejected"] == 0


def test_the_last_fifth_of_the_ledger_is_kept_for_the_owners_that_sent_little(
    make_gateway: MakeGateway, server: "redis.Redis"
) -> None:
    gateway = make_gateway(ledger_max_bytes="10000000", access="required")
    large, small, new = (key_of(gateway) for _ in range(3))

    def statuses() -> list[int]:
        gateway.services.admission.sample()
        return [upload(gateway, IMAGE, **headers).status_code for headers in (large, small, new)]

    def fill(share: float) -> None:
        add_ballast(server, int(10_000_000 * share))

    for _ in range(6):
        assert upload(gateway, IMAGE, **large).status_code == 202
    assert upload(gateway, IMAGE, **small).status_code == 202
    fill(0.75)
    assert statuses() == [202, 202, 202]
    fill(0.9)  # half of the reserve is left: nobody may hold more than half
    assert statuses() == [429, 202, 202]
    response = gateway.client.post("/v1/submissions", json={}, headers=large)
    assert "nearly full" in assert_problem(response, 429, "queue_full")["detail"]
    assert response.headers["Retry-After"] == "60"
    fill(0.99)
    assert statuses() == [429, 429, 429]
    fill(0.5)
    assert statuses() == [202, 202, 202]


def test_a_single_owner_may_use_the_whole_ledger(make_gateway: MakeGateway, server: "redis.Redis") -> None:
    gateway = make_gateway(ledger_max_bytes="10000000", access="required")
    key = key_of(gateway)
    assert upload(gateway, IMAGE, **key).status_code == 202
    add_ballast(server, 9_800_000)
    gateway.services.admission.sample()
    assert upload(gateway, IMAGE, **key).status_code == 202


#: Memory of a key without its value, in bytes.
_KEY_BYTES = 100


def add_ballast(server: "redis.Redis", total_bytes: int) -> None:
    """Make Redis use `total_bytes`, without earlier ballast. Sending the data would take memory for buffers, too."""
    for key in server.keys("ballast-*"):
        server.delete(key)
    # Allocators round the size of large values up by megabytes.
    each = 65_536
    with server.pipeline(transaction=False) as pipeline:
        for number in range((total_bytes - used_bytes(server)) // (each + _KEY_BYTES)):
            pipeline.setrange(f"ballast-{number}", each - 64, "x")
        pipeline.execute()


def key_of(gateway: Gateway) -> dict[str, str]:
    """The headers of a new API key."""
    key, text = make_key("tests", (Scope.SUBMIT,))
    gateway.keys.put(key)
    return {"X-API-Key": text}


def test_a_full_ledger_opens_no_submissions(make_gateway: MakeGateway, server: "redis.Redis") -> None:
    gateway = make_gateway(ledger_max_bytes="10000000")
    server.set("ballast", bytes(12_000_000))
    gateway.services.admission.sample()
    assert_problem(gateway.client.post("/v1/submissions", json={}), 503, "unavailable")
    assert gateway.client.get("/v1/submissions").get_json()["submissions"] == []


def test_a_client_with_too_many_open_submissions_gets_429_until_it_closes_one(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(submissions_max_open="2")
    urls = [gateway.client.post("/v1/submissions", json={}).get_json()["urls"]["self"] for _ in range(2)]
    response = gateway.client.post("/v1/submissions", json={})
    assert "2 open submissions" in assert_problem(response, 429, "too_many_submissions")["detail"]
    assert response.headers["Retry-After"] == "60"
    archive = tar_of({"red.png": IMAGE})
    assert gateway.client.post(f"{urls[0]}/jobs", data=archive, content_type="application/x-tar").status_code == 202
    gateway.client.post(f"{urls[0]}/close")
    assert gateway.client.post("/v1/submissions", json={}).status_code == 201


@pytest.mark.parametrize(
    ("share", "policy", "status"), [(1.1, "noeviction", 503), (3, "noeviction", 202), (100, "allkeys-lru", 503)]
)
def test_uploads_are_refused_before_redis_is_full_and_if_it_may_evict_keys(
    gateway: Gateway, server: "redis.Redis", share: float, policy: str, status: int
) -> None:
    server.config_set("maxmemory-policy", policy)
    server.config_set("maxmemory", int(used_bytes(server) * share))
    gateway.services.admission.sample()
    assert upload(gateway, IMAGE).status_code == status


def test_the_rate_is_measured_over_the_most_recent_samples(ledger: Ledger) -> None:
    now_s = [0.0]
    admission = Admission(ledger, 10**9, clock=lambda: now_s[0])
    assert (admission.rate_per_s(), admission.wait_s(5), admission.retry_after_s(5)) == (0.0, None, 1)
    for second in range(4):
        now_s[0] = float(second)
        job = Job(new_job_id(), "interactive", second)
        store(ledger, [job])
        ledger.cancel([job.id], 60)
        admission.sample()
    assert admission.rate_per_s() == 1.0
    assert admission.wait_s(9) == 10.0
    assert admission.retry_after_s(10_000) == 60
