"""A gateway whose Redis loses an ability while the gateway runs: it is not ready, and each response names the cause."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from contract.access import Scope, make_key
from contract.errors import UnavailableError
from contract.images.store import open_image_store
from tests.support.images import draw
from tests.support.services import free_port
from tests.unit.gateway.conftest import Gateway, assert_problem, running_gateway, upload

IMAGE = draw()
REPLICA = "is a read-only replica"


@pytest.fixture
def server(clean_redis: str) -> Iterator["redis.Redis"]:
    """A client of Redis; what a test changes is restored afterwards."""
    with redis.Redis.from_url(clean_redis, decode_responses=True) as client:
        yield client
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
        client.replicaof("NO", "ONE")
        client.acl_deluser("limited")


def readiness(gateway: Gateway) -> tuple[int, str]:
    gateway.services.admission.sample()
    response = gateway.client.get("/readyz")
    return response.status_code, response.get_json()["ledger"]


def problem_codes(gateway: Gateway) -> list[str]:
    body = gateway.client.get("/v1/status").get_json()
    assert body["ready"] is not bool([problem for problem in body["problems"] if problem["code"] != "no_worker"])
    return [problem["code"] for problem in body["problems"]]


def evict(server: "redis.Redis") -> None:
    server.config_set("maxmemory-policy", "allkeys-lru")
    server.config_set("maxmemory", 10**10)


def stop_evicting(server: "redis.Redis") -> None:
    server.config_set("maxmemory-policy", "noeviction")


def replicate(server: "redis.Redis") -> None:
    server.replicaof("127.0.0.1", free_port())


def promote(server: "redis.Redis") -> None:
    server.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("change", "undo", "code", "cause"),
    [
        (evict, stop_evicting, "ledger_evicts", "`maxmemory-policy noeviction`"),
        (replicate, promote, "ledger_unsuitable", REPLICA),
    ],
)
def test_a_gateway_is_not_ready_until_its_redis_can_keep_jobs_again(
    gateway: Gateway,
    server: "redis.Redis",
    change: Callable[["redis.Redis"], None],
    undo: Callable[["redis.Redis"], None],
    code: str,
    cause: str,
) -> None:
    assert readiness(gateway)[0] == 200
    change(server)
    status, text = readiness(gateway)
    assert (status, cause in text) == (503, True)
    assert problem_codes(gateway) == [code, "no_worker"]
    assert cause in assert_problem(upload(gateway, IMAGE), 503, "unavailable")["detail"]
    undo(server)
    assert readiness(gateway)[0] == 200
    assert upload(gateway, IMAGE).status_code == 202


def test_a_full_ledger_leaves_the_gateway_ready(gateway: Gateway, server: "redis.Redis") -> None:
    server.config_set("maxmemory", server.info("memory")["used_memory"])
    assert readiness(gateway)[0] == 200
    assert problem_codes(gateway) == ["ledger_full", "no_worker"]


def test_an_upload_to_a_redis_that_has_just_become_a_replica_is_refused(
    gateway: Gateway, server: "redis.Redis"
) -> None:
    gateway.services.admission.stop()  # the gateway has not noticed it yet
    replicate(server)
    assert REPLICA in assert_problem(upload(gateway, IMAGE), 503, "unavailable")["detail"]


@pytest.fixture
def limited(clean_redis: str, server: "redis.Redis", tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose Redis user may not run INFO."""
    server.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "+@all", "-info")
    url = clean_redis.replace("redis://", "redis://limited:pass@")
    with running_gateway(url, tmp_path / "images") as gateway:
        yield gateway


def test_without_the_right_to_info_everything_else_works(limited: Gateway) -> None:
    assert readiness(limited)[0] == 200
    assert upload(limited, IMAGE).status_code == 202
    assert problem_codes(limited) == ["no_worker"]
    assert "pawqueue_ledger_up 1.0" in limited.metrics()


def test_a_missing_right_is_named_instead_of_an_internal_error(limited: Gateway, server: "redis.Redis") -> None:
    for right in ("-evalsha", "-hset"):  # before and inside a script
        server.execute_command("ACL", "SETUSER", "limited", "+@all", right)
        detail = assert_problem(upload(limited, IMAGE), 503, "unavailable")["detail"]
        assert "does not allow a needed command" in detail


def test_the_error_of_a_rate_limit_names_the_cause(clean_redis: str, server: "redis.Redis", tmp_path: Path) -> None:
    with running_gateway(clean_redis, tmp_path / "images", access="required") as gateway:
        key, text = make_key("tests", (Scope.SUBMIT,))
        gateway.keys.put(key)
        replicate(server)
        response = upload(gateway, IMAGE, **{"X-API-Key": text})
        assert REPLICA in assert_problem(response, 503, "unavailable")["detail"]


def test_an_image_store_without_rights_is_named(clean_redis: str, server: "redis.Redis") -> None:
    server.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "+@all", "-set")
    images = open_image_store(clean_redis.replace("redis://", "redis://limited:pass@"), 60)
    with pytest.raises(UnavailableError, match=r"The image store \(Redis\) does not allow a needed command"):
        images.put(b"x")
