"""The services with a Redis user each, as Compose and Kubernetes run them: all of them work, and none can do more."""

import io
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from click.testing import CliRunner

from contract.access import Scope
from contract.job import JobStatus
from contract.ledger import keys
from contract.ledger.ledger import Ledger
from contract.ledger.requirements import check_redis
from contract.ledger.users import USERS, USERS_FILE, users_file
from contract.settings import load_settings
from dashboard.services import build_services
from gateway.keys_cli import keys as keys_command
from tests.integration.test_redis_requirements import DURABLE, GATEWAY, environ_for
from tests.support.images import draw
from tests.support.ledger import read, submitted
from tests.support.receiver import Receiver, receiving
from tests.support.redis_users import NAMES, make_users
from tests.support.services import (
    ROOT,
    accepts_connections,
    free_port,
    light_worker,
    running,
    running_redis_with,
    wait_until,
)

SERVICES = [user.name for user in USERS]


@dataclass
class Users:
    """A Redis with these users."""

    urls: dict[str, str]
    has_read_only_keys: bool

    def client(self, user: str) -> "redis.Redis":
        return redis.Redis.from_url(self.urls[user], decode_responses=True)

    def denied(self) -> list[dict[str, str]]:
        """What Redis has denied so far. redis-py sends its name and version, and does not need them to arrive."""
        with self.client("admin") as client:
            entries = [entry for entry in client.acl_log() if not str(entry["object"]).startswith("client")]
            client.acl_log_reset()
            return entries


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    folder, port = tmp_path_factory.mktemp("users"), free_port()
    made = make_users(folder)
    with running_redis_with(folder, port, *DURABLE, config=[str(made.config)]):
        yield Users({name: made.url(name, port) for name in NAMES}, made.has_read_only_keys)


def test_the_file_of_users_is_up_to_date() -> None:
    assert (ROOT / USERS_FILE).read_text() == users_file(), "run `make docs`"


def test_every_key_is_in_the_table() -> None:
    names = {name for user in USERS for name in (*user.changed_keys, *user.read_keys)}
    values = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    assert values - names - {keys.PREFIX, keys.RATES, keys.DONE, keys.CHANGED} == set(), (
        "say in users.py which services need it"
    )


@pytest.mark.parametrize("service", ["gateway", "worker", "dashboard", "notifier", "keys"])
def test_each_user_has_the_rights_that_are_checked_when_its_service_starts(users: Users, service: str) -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": users.urls[service]})
    (report,) = check_redis(settings, service)
    assert (report.problems, report.warnings, report.unavailable) == ([], [], None)
    users.denied()  # the check tries commands on a key that no user needs


def test_a_service_with_the_user_of_another_one_is_refused_and_the_remedy_keeps_it_restricted(users: Users) -> None:
    settings = load_settings({"PAWQUEUE_REDIS_URL": users.urls["dashboard"]})
    (report,) = check_redis(settings, "gateway")
    (problem,) = report.problems
    assert "does not allow the user `dashboard` to run" in problem.text
    assert problem.remedy == f"Give it the rights in {USERS_FILE}: run make-secrets again, and restart Redis."
    users.denied()


def test_all_services_work_and_redis_denies_them_nothing(users: Users, tmp_path: Path) -> None:
    environ = environ_for("", tmp_path) | {"PAWQUEUE_ACCESS": "required", "PAWQUEUE_THUMBNAILS_PER_S": "100"}
    port = int(environ["PAWQUEUE_GATEWAY_PORT"])
    environ |= {"PAWQUEUE_WEBHOOK_ALLOW": "127.0.0.1", "PAWQUEUE_WEBHOOK_RETRIES_S": "0.1"}
    as_user = {name: environ | {"PAWQUEUE_REDIS_URL": url} for name, url in users.urls.items()}
    with (
        receiving() as receiver,
        running("notifier", [sys.executable, "-m", "gateway.notifier"], tmp_path, as_user["notifier"]),
        running("worker", light_worker(), tmp_path, as_user["worker"]),
        running("gateway", GATEWAY, tmp_path, as_user["gateway"]),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
    ):
        key = _keys(as_user["keys"], "create", "--name", "all", "--scope", "submit", "--scope", "read")
        admin = _keys(as_user["keys"], "create", "--name", "operator", "--scope", "admin", "--rate-limit", "9 per hour")
        wait_until(lambda: accepts_connections(port), "the gateway responding")
        http.headers["X-API-Key"] = key
        job_id = _submit_each_way(http)
        _use_webhooks(http, receiver)
        _read_in_the_dashboard(as_user["dashboard"], job_id, key)
        dead = http.get("/v1/dead", headers={"X-API-Key": admin})
        assert (dead.status_code, "RateLimit" in dead.headers) == (200, True)
        assert http.delete(f"/v1/jobs/{job_id}?purge=true").status_code == 204
        _keys(as_user["keys"], "revoke", key.split("_")[1])
    assert users.denied() == []


def _submit_each_way(http: httpx.Client) -> str:
    """Submit single images and a submission; returns the id of a finished job."""
    headers = {"Prefer": "wait=30", "Idempotency-Key": "one"}
    job = http.post("/v1/jobs?deadline_s=600", content=draw(), headers=headers).json()
    assert job["status"] == "succeeded", job
    assert http.post("/v1/jobs", content=draw(), headers=headers).json()["id"] == job["id"]
    assert http.post("/predict", files={"file": ("a.png", draw(), "image/png")}).status_code == 200
    submission = http.post("/v1/submissions", json={"name": "folder"}).json()["id"]
    tar = {"Content-Type": "application/x-tar"}
    http.post(f"/v1/submissions/{submission}/jobs", content=_tar(), headers=tar).raise_for_status()
    http.post(f"/v1/submissions/{submission}/close").raise_for_status()
    closed = http.get(f"/v1/submissions/{submission}", headers={"Prefer": "wait=60"}).json()
    assert closed["counts"]["succeeded"] == 2
    for order in ("after", "cursor"):
        assert len(http.get(f"/v1/submissions/{submission}/results?{order}=0").text.splitlines()) == 3
    assert len(http.get("/v1/submissions").json()["submissions"]) == 1
    assert http.delete(f"/v1/submissions/{submission}?purge=true").status_code == 204
    waiting = http.post("/v1/submissions", json={}).json()["id"]
    http.delete(f"/v1/submissions/{waiting}").raise_for_status()
    assert http.get("/v1/status").json()["ready"]
    assert http.get("/readyz").status_code == 200
    return str(job["id"])


def _use_webhooks(http: httpx.Client, receiver: Receiver) -> None:
    """Receive an event, and redeliver one that was not delivered; one endpoint responds with 410."""
    receiver.respond = lambda item: (410 if item.path == "/gone" else 500 if len(receiver.received) <= 2 else 204, {})
    for path in ("hooks", "gone"):
        query = {"webhook": f"http://127.0.0.1:{receiver.port}/{path}"}
        http.post("/v1/jobs", params=query, content=draw(), headers={"Prefer": "wait=30"}).raise_for_status()
        wait_until(lambda: len(_dead_deliveries(http)) == 1, "the delivery to be dead")
        (dead,) = _dead_deliveries(http)
        http.post(f"/v1/webhooks/deliveries/{dead['id']}/redeliver").raise_for_status()
        if path == "hooks":
            wait_until(lambda: not http.get("/v1/webhooks/deliveries").json()["deliveries"], "the delivery")
    http.post("/v1/webhooks/secret/rotate", json={"keep_s": 60}).raise_for_status()
    assert http.delete(f"/v1/jobs/{dead['subject']}?purge=true").status_code == 204


def _dead_deliveries(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/v1/webhooks/deliveries?status=dead").json()["deliveries"]
    return found


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in (("a.png", draw()), ("b.png", draw((70, 50))), ("c.png", b"no image")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _keys(environ: dict[str, str], *arguments: str) -> str:
    result = CliRunner().invoke(keys_command, arguments, env=environ)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def _read_in_the_dashboard(environ: dict[str, str], job_id: str, key: str) -> None:
    services = build_services(load_settings(environ))
    snapshot = services.reader.read()
    assert not snapshot.ledger.is_down
    assert job_id in {row.job_id for row in snapshot.jobs}
    assert services.access.check(key, Scope.READ).owner


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("worker", f"HSET {keys.API_KEYS} mine {{}}"),
        ("worker", f"HGETALL {keys.API_KEYS}"),
        ("worker", f"GET {keys.RATES}:x"),
        ("worker", f"HGETALL {keys.WEBHOOK_SECRET}x"),
        ("dashboard", f"HGETALL {keys.WEBHOOK_SECRET}x"),
        ("notifier", f"HGETALL {keys.API_KEYS}"),
        ("notifier", f"HGETALL {keys.JOB}x"),
        ("worker", f"SUBSCRIBE {keys.DONE}"),
        ("dashboard", f"HSET {keys.JOB}x status queued"),
        ("dashboard", f"RPUSH {keys.PREFIX}interactive x"),
        ("dashboard", f"PUBLISH {keys.DONE} x"),
        ("keys", f"HGET {keys.JOB}x status"),
        ("keys", f"HSET {keys.JOB}x status queued"),
        ("gateway", f"HSET {keys.PREFIX}unacked x y"),
        *((name, command) for name in SERVICES for command in ("FLUSHALL", "KEYS *", "ACL LIST", "SHUTDOWN", "SAVE")),
        *((name, "CONFIG SET dir /tmp") for name in SERVICES),
        *((name, "GET other:key") for name in SERVICES),
    ],
)
def test_a_service_cannot_do_what_it_does_not_need(users: Users, user: str, command: str) -> None:
    with users.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("gateway", f"HSET {keys.API_KEYS} mine {{}}"),
        ("dashboard", f"EXPIRE {keys.JOB}x 0"),
        ("dashboard", f"EXPIRE {keys.API_KEYS} 0"),
    ],
)
def test_redis_7_denies_changes_of_keys_that_a_service_only_reads(users: Users, user: str, command: str) -> None:
    if not users.has_read_only_keys:
        pytest.skip("this Redis is older than 7.0")
    with users.client(user) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())


def test_scripts_have_no_more_rights_than_their_user(users: Users) -> None:
    with users.client("worker") as client, pytest.raises(redis.ResponseError, match=r"(?i)user executing|NOPERM|ACL"):
        client.register_script(f"return redis.call('HSET', '{keys.API_KEYS}', 'mine', '')")()


def test_nobody_can_use_redis_without_a_password(users: Users) -> None:
    url = "redis://" + users.urls["admin"].split("@")[1]
    with redis.Redis.from_url(url) as client, pytest.raises(redis.AuthenticationError):
        client.get("x")


def test_redis_reads_all_jobs_again_after_a_restart(tmp_path: Path) -> None:
    made, port = make_users(tmp_path / "users"), free_port()
    with redis.Redis.from_url(made.url("gateway", port), decode_responses=True) as client:
        ledger = Ledger(client)
        with running_redis_with(tmp_path, port, *DURABLE, config=[str(made.config)]):
            jobs = [submitted(ledger) for _ in range(3)]
        with running_redis_with(tmp_path, port, *DURABLE, config=[str(made.config)]):
            assert [read(ledger, job).status for job in jobs] == [JobStatus.QUEUED] * 3
