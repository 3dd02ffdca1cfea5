"""An `Idempotency-Key` returns the job while workers are busy: at any gateway, and after the first client has left."""

import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from contract.ledger.ledger import Ledger
from contract.queues import INTERACTIVE, QUEUES
from tests.support.images import draw
from tests.support.ledger import cat, claim_jobs
from tests.support.services import accepts_connections, free_port, running, wait_until

IMAGE = draw()


@pytest.fixture
def gateways(clean_redis: str, tmp_path: Path) -> Iterator[list[str]]:
    """The URLs of two gateways. There is no worker: tests finish jobs in the ledger."""
    with ExitStack() as processes:
        ports = [free_port(), free_port()]
        for port in ports:
            environ = {
                "PAWQUEUE_REDIS_URL": clean_redis,
                "PAWQUEUE_STATE_DIR": str(tmp_path),
                "PAWQUEUE_GATEWAY_PORT": str(port),
            }
            processes.enter_context(running(f"gateway-{port}", [sys.executable, "-m", "gateway"], tmp_path, environ))
        wait_until(lambda: all(map(accepts_connections, ports)), "the gateways responding")
        yield [f"http://127.0.0.1:{port}" for port in ports]


def upload(url: str, wait_s: int = 0) -> tuple[int, str]:
    """Upload the image with the key; returns the status and the id of the job."""
    headers = {"Idempotency-Key": "k", "Prefer": f"wait={wait_s}"}
    response = httpx.post(f"{url}/v1/jobs", content=IMAGE, headers=headers, timeout=90)
    return response.status_code, response.json()["id"]


def test_a_repeated_upload_returns_the_queued_job_and_then_its_result(gateways: list[str], ledger: Ledger) -> None:
    host, port = gateways[0].removeprefix("http://").split(":")
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nIdempotency-Key: k\r\nPrefer: wait=60\r\n"
    with socket.create_connection((host, int(port))) as first_client:
        first_client.sendall(f"{head}Content-Length: {len(IMAGE)}\r\n\r\n".encode() + IMAGE)
        wait_until(lambda: ledger.stats(QUEUES).queues[INTERACTIVE].queued == 1, "the job being queued", 30)
    # The first client has left without a response.
    status, job_id = upload(gateways[0])
    assert status == 202
    assert upload(gateways[1]) == (202, job_id)
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(upload, gateways[number % 2], 60) for number in range(5)]
        (claim,) = claim_jobs(ledger, [job_id], 60_000, 60)
        assert claim
        assert upload(gateways[1]) == (202, job_id)  # while it is running
        assert not any(request.done() for request in waiting)
        ledger.commit([(claim, cat())], 60)
        assert [request.result() for request in waiting] == [(200, job_id)] * 5
    assert ledger.stats(QUEUES).queues[INTERACTIVE].queued == 0
    assert sum(ledger.stats(QUEUES).totals.values()) == 1
