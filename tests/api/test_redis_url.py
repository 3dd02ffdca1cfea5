"""A Redis given by URL: with a password, and over TLS with a self-signed certificate."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from contract.broker import make_celery
from contract.errors import UnavailableError
from contract.job import Job, new_job_id, now_ms
from contract.ledger.connection import connect
from contract.ledger.ledger import Ledger
from contract.queues import INTERACTIVE
from deploy.local.redis_server import find_redis_server
from tests.support.images import draw
from tests.support.ledger import store
from tests.support.services import Gateway, free_port, running, running_gateway_and_worker, wait_until

_PASSWORD = "secret-password"


@pytest.fixture
def guarded_redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis that requires a password."""
    port = free_port()
    command = [str(find_redis_server()), "--port", str(port), "--requirepass", _PASSWORD, "--save", ""]
    with running("redis", command, tmp_path):
        url = f"redis://:{_PASSWORD}@127.0.0.1:{port}/0"
        wait_until(lambda: is_up(url), "Redis to accept connections", 30)
        yield url


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis that requires TLS and a password."""
    server, openssl = shutil.which("redis-server"), shutil.which("openssl")
    if not server or not openssl:
        pytest.skip("redis-server or openssl is not installed; the bundled Redis has no TLS")
    certificate, key, port = tmp_path / "cert.pem", tmp_path / "key.pem", free_port()
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    files = ["-keyout", str(key), "-out", str(certificate), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *request, *files], check=True, capture_output=True)
    tls = ["--port", "0", "--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key]
    options = ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no", "--requirepass", _PASSWORD, "--save", ""]
    with running("redis", [server, *map(str, tls), *map(str, options)], tmp_path) as process:
        url = f"rediss://:{_PASSWORD}@127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
        wait_until(lambda: process.handle.poll() is not None or is_up(url), "Redis to accept connections", 30)
        if process.handle.poll() is not None:
            pytest.skip("this redis-server was built without TLS")
        yield url


def is_up(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def submit_job(url: str) -> None:
    """Record a job in the ledger, and receive its ticket with Celery."""
    with connect(url) as client:
        ledger, job = Ledger(client), Job(new_job_id(), INTERACTIVE, now_ms())
        store(ledger, [job])
        assert ledger.get([job.id]) == [job]
    with make_celery(url).connection_for_read() as connection:
        connection.SimpleQueue(INTERACTIVE).get(timeout=20).ack()


def test_the_password_in_the_url_is_used(guarded_redis: str) -> None:
    submit_job(guarded_redis)


def test_the_error_for_a_wrong_password_does_not_reveal_it(guarded_redis: str) -> None:
    with pytest.raises((UnavailableError, redis.AuthenticationError)) as error:
        submit_job(guarded_redis.replace(_PASSWORD, "wrong-password"))
    assert "wrong-password" not in str(error.value)


def test_tls_is_used_and_certificates_are_verified(tls_redis: str) -> None:
    submit_job(tls_redis)
    with pytest.raises(UnavailableError):
        submit_job(tls_redis.split("?", maxsplit=1)[0])  # without the CA, the certificate is not trusted


@pytest.mark.slow
def test_an_image_is_classified_over_tls(tls_redis: str, tmp_path: Path) -> None:
    with running_gateway_and_worker(tmp_path, tls_redis, access="required") as stack:
        key = Gateway(stack.url, stack.gateway, stack.environ).make_key()
        headers = {"X-API-Key": key, "Prefer": "wait=60"}
        response = httpx.post(f"{stack.url}/v1/jobs", content=draw(), headers=headers, timeout=90)
        assert response.json()["status"] == "succeeded"
        assert "RateLimit" in response.headers
    for process in (stack.gateway, *stack.workers):
        assert _PASSWORD not in process.log.read_text()
