"""The notifier with real services: events arrive, can be verified with the public library, and survive failures."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.notifier.message import signatures
from gateway.notifier.notifier import Schedule
from tests.support.images import draw
from tests.support.receiver import Received, Receiver, receiving
from tests.support.services import (
    ROOT,
    Process,
    Stack,
    free_port,
    light_worker,
    responds,
    running,
    running_stack,
    wait_until,
)

NOTIFIER = [sys.executable, "-m", "gateway.notifier"]
#: Short pauses: eight tries in a few seconds.
RETRIES = ", ".join(["0.1"] * 7)


@pytest.fixture(scope="module")
def hooks() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, hooks: Receiver) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("webhooks")
    with running_stack(folder, light_worker(), webhook_allow="127.0.0.1", webhook_retries_s=RETRIES) as stack:
        yield stack


@pytest.fixture
def receiver(hooks: Receiver) -> Receiver:
    hooks.received.clear()
    hooks.respond = lambda _: (204, {})
    return hooks


@contextmanager
def notifying(stack: Stack, name: str = "notifier", **settings: str) -> Iterator[Process]:
    """A running notifier."""
    port = free_port()
    environ = stack.environ | {"PAWQUEUE_NOTIFIER_METRICS_PORT": str(port)}
    environ |= {f"PAWQUEUE_{key.upper()}": value for key, value in settings.items()}
    with running(name, NOTIFIER, stack.folder, environ) as process:
        wait_until(lambda: responds(f"http://127.0.0.1:{port}/readyz"), "the notifier to be ready")
        yield process


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        yield http


def submit(http: httpx.Client, url: str) -> str:
    response = http.post("/v1/jobs", params={"webhook": url}, content=draw(), headers={"Prefer": "wait=30"})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def deliveries(http: httpx.Client, **query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = http.get("/v1/webhooks/deliveries", params=query).json()["deliveries"]
    return found


def arrived(receiver: Receiver, job_id: str, count: int = 1) -> list[Received]:
    """The requests about a job, once there are this many."""

    def of_job() -> list[Received]:
        return [item for item in list(receiver.received) if item.event["data"]["id"] == job_id]

    wait_until(lambda: len(of_job()) >= count, f"{count} requests about the job")
    return of_job()


def test_an_event_arrives_and_the_public_library_verifies_it(
    stack: Stack, http: httpx.Client, receiver: Receiver
) -> None:
    with notifying(stack):
        job_id = submit(http, receiver.url)
        (item,) = arrived(receiver, job_id)
    secret = http.get("/v1/webhooks/secret").json()["secret"]
    event = Webhook(secret).verify(item.body, dict(item.headers))
    assert event["type"] == "job.succeeded"
    assert event["data"] == http.get(f"/v1/jobs/{job_id}").json()
    assert item.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(item.body.replace(b"succeeded", b"failed"), dict(item.headers))
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(item.body, dict(item.headers))
    assert secret not in (stack.folder / "notifier.log").read_text() + (stack.folder / "gateway.log").read_text()


def test_during_a_rotation_both_secrets_verify_an_event(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    before = http.get("/v1/webhooks/secret").json()["secret"]
    after = http.post("/v1/webhooks/secret/rotate", json={"keep_s": 600}).json()["secret"]
    with notifying(stack):
        (item,) = arrived(receiver, submit(http, receiver.url))
        assert len(item.headers["webhook-signature"].split(" ")) == 2
        for secret in (before, after):
            Webhook(secret).verify(item.body, dict(item.headers))
        http.post("/v1/webhooks/secret/rotate", json={"keep_s": 0})
        (item,) = arrived(receiver, submit(http, receiver.url))
        assert len(item.headers["webhook-signature"].split(" ")) == 1


def test_a_failing_receiver_gets_the_event_again_with_the_same_id(
    stack: Stack, http: httpx.Client, receiver: Receiver
) -> None:
    receiver.respond = lambda _: (500 if len(receiver.received) < 3 else 200, {})
    with notifying(stack):
        items = arrived(receiver, submit(http, receiver.url), 3)
    assert len({item.id for item in items}) == 1
    assert len({item.body for item in items}) == 1
    wait_until(lambda: not deliveries(http), "the delivery to be settled")


@pytest.mark.parametrize("status", [500, 302])
def test_after_the_last_try_a_delivery_is_dead_and_can_be_redelivered(
    stack: Stack, http: httpx.Client, receiver: Receiver, status: int
) -> None:
    receiver.respond = lambda _: (status, {"Location": receiver.url + "/elsewhere"})
    with notifying(stack, webhook_retries_s="0.1, 0.1"):
        job_id = submit(http, receiver.url)
        wait_until(lambda: bool(deliveries(http, status="dead")), "the delivery to be dead")
        (dead,) = deliveries(http, status="dead")
        assert (dead["subject"], dead["tries"]) == (job_id, 3)
        assert f"responded with {status}" in dead["problem"]
        assert {item.path for item in receiver.received} == {"/hooks"}
        first = list(receiver.received)
        receiver.respond = lambda _: (200, {})
        assert http.post(f"/v1/webhooks/deliveries/{dead['id']}/redeliver").status_code == 202
        items = arrived(receiver, job_id, len(first) + 1)
    assert {item.id for item in items} == {dead["id"]}


def test_an_endpoint_that_responds_with_410_is_switched_off(
    stack: Stack, http: httpx.Client, receiver: Receiver
) -> None:
    url = receiver.url + "/gone"
    receiver.respond = lambda _: (410, {})
    with notifying(stack):
        first, second = submit(http, url), ""
        wait_until(lambda: bool(deliveries(http, status="dead")), "the delivery to be dead")
        second = submit(http, url)
        wait_until(lambda: len(deliveries(http, status="dead")) == 2, "the second delivery to be dead")
        assert receiver.subjects() == [first]
        receiver.respond = lambda _: (200, {})
        for dead in deliveries(http, status="dead"):
            http.post(f"/v1/webhooks/deliveries/{dead['id']}/redeliver")
        wait_until(lambda: not deliveries(http), "both deliveries")
    assert receiver.subjects()[1:] in ([first, second], [second, first])


@pytest.mark.slow  # it waits for the end of a lease
@pytest.mark.timeout(300)
def test_a_killed_notifier_loses_nothing(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold(_: Received) -> tuple[int, dict[str, str]]:
        reached.set()
        release.wait(60)
        return 204, {}

    receiver.respond = hold
    with notifying(stack) as first:
        job_id = submit(http, receiver.url)
        assert reached.wait(60)
        first.stop(signal.SIGKILL)
    receiver.respond = lambda _: (204, {})
    release.set()
    with notifying(stack, "notifier-2"):
        items = arrived(receiver, job_id, 2)  # after the lease of the killed one
    assert len({item.id for item in items}) == 1


def test_a_stopping_notifier_finishes_the_try_in_progress(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    reached, release = threading.Event(), threading.Event()

    def hold(_: Received) -> tuple[int, dict[str, str]]:
        reached.set()
        release.wait(60)
        return 204, {}

    receiver.respond = hold
    with notifying(stack) as process:
        submit(http, receiver.url)
        assert reached.wait(60)
        process.handle.send_signal(signal.SIGTERM)
        release.set()
        assert process.handle.wait(60) == 0
    assert deliveries(http) == []


def test_a_slow_endpoint_delays_no_other(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    release = threading.Event()
    with receiving() as slow, notifying(stack):
        slow.respond = lambda _: (204 if release.wait(60) else 500, {})
        for _ in range(12):
            submit(http, slow.url)
        wait_until(lambda: len(slow.received) == 8, "the slow endpoint to hold all that it may hold")
        (item,) = arrived(receiver, submit(http, receiver.url))
        assert item.event["type"] == "job.succeeded"
        assert len(slow.received) == 8
        release.set()
        wait_until(lambda: not deliveries(http), "all deliveries")


def test_a_private_address_is_refused_at_the_delivery_too(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    # The gateway allows 127.0.0.1, this notifier does not.
    with notifying(stack, webhook_allow="", webhook_retries_s="0.1"):
        submit(http, receiver.url)
        wait_until(lambda: bool(deliveries(http, status="dead")), "the delivery to be dead")
    (dead,) = deliveries(http, status="dead")
    assert "127.0.0.1 is not a public address" in dead["problem"]
    assert receiver.received == []
    http.delete(f"/v1/jobs/{dead['subject']}?purge=true").raise_for_status()
    assert deliveries(http) == []


def test_the_command_manages_secrets_and_deliveries(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pawqueue", "webhooks", *arguments, "--url", stack.url]
        done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = run("secret").strip()
    second = json.loads(run("rotate", "--keep", "15m", "--json"))
    assert (second["previous_secret"], run("secret").strip()) == (first, second["secret"])
    assert run("list") == "All events were delivered.\n"
    receiver.respond = lambda _: (500, {})
    with notifying(stack, webhook_retries_s="0.1"):
        job_id = submit(http, receiver.url)
        wait_until(lambda: bool(deliveries(http, status="dead")), "the delivery to be dead")
        (dead,) = json.loads(run("list", "--dead", "--json"))
        assert dead["subject"] == job_id
        assert dead["id"] in run("show", dead["id"])
        receiver.respond = lambda _: (200, {})
        assert run("redeliver", dead["id"]) == f"{dead['id']} is tried again now.\n"
        wait_until(lambda: not deliveries(http), "the delivery")


def test_a_folder_submitted_with_a_webhook_leaves_one_event(stack: Stack, receiver: Receiver, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(draw())
    command = [sys.executable, "-m", "pawqueue", "submit", tmp_path, "--out", tmp_path / "out.csv", "--quiet"]
    with notifying(stack):
        subprocess.run([*command, "--webhook", receiver.url, "--url", stack.url], cwd=ROOT, check=True, timeout=100)
        wait_until(lambda: bool(receiver.received), "the event")
    (item,) = receiver.received
    assert (item.event["type"], item.event["data"]["counts"]["succeeded"]) == ("submission.finished", 2)


@pytest.mark.parametrize(
    ("failed", "retry_after_s", "jitter", "expected"),
    [
        (1, 0, 0.0, 5_000),
        (1, 0, 1.0, 6_000),
        (2, 0, 0.5, 330_000),
        (1, 60, 0.0, 60_000),
        (2, 60, 0.0, 300_000),
        (3, 0, 0.0, None),
    ],
)
def test_the_pause_before_the_next_try(failed: int, retry_after_s: int, jitter: float, expected: int | None) -> None:
    assert Schedule([5, 300]).pause_ms(failed, retry_after_s, jitter) == expected


def test_a_receiver_decides_how_long_to_wait(stack: Stack, http: httpx.Client, receiver: Receiver) -> None:
    receiver.respond = lambda _: (429, {"Retry-After": "3600"})
    with notifying(stack):
        submit(http, receiver.url)
        wait_until(lambda: any(item["tries"] for item in deliveries(http)), "the first try")
    (waiting,) = deliveries(http)
    assert waiting["next_try_at"] > waiting["last_try_at"]
    assert len(receiver.received) == 1
    http.delete(f"/v1/jobs/{waiting['subject']}?purge=true").raise_for_status()


def test_the_signature_is_that_of_the_specification() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    found = signatures([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
