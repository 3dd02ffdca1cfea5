"""A gateway whose disk loses its power, or is slow."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from contract.images.store import FileImageStore
from contract.ledger.ledger import Ledger
from tests.support.images import draw
from tests.support.ledger import patient_client
from tests.support.loop_disk import LoopDisk, loop_disk
from tests.support.services import Process, free_port, responds, running, wait_until

_CLIENTS = 8


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    with loop_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def gateway(disk: LoopDisk, clean_redis: str, tmp_path: Path) -> Iterator[tuple[httpx.Client, Process]]:
    """A gateway without a worker, which stores its images on the disk."""
    port = free_port()
    environ = {
        "PAWQUEUE_REDIS_URL": clean_redis,
        "PAWQUEUE_GATEWAY_PORT": str(port),
        "PAWQUEUE_STATE_DIR": str(tmp_path / "state"),
        "PAWQUEUE_IMAGE_STORE_URL": str(disk.path / "images"),
    }
    with running("gateway", [sys.executable, "-m", "gateway"], tmp_path, environ) as process:
        wait_until(lambda: responds(f"http://127.0.0.1:{port}/readyz"), "the gateway to accept requests")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as http:
            yield http, process


def upload(http: httpx.Client, image: bytes) -> httpx.Response:
    return http.post("/v1/jobs", files={"file": ("image.png", image)})


def test_the_images_of_all_accepted_jobs_survive_a_power_failure(
    gateway: tuple[httpx.Client, Process], disk: LoopDisk, clean_redis: str, tmp_path: Path
) -> None:
    http, process = gateway
    accepted: dict[str, bytes] = {}
    enough = threading.Event()

    def send(client: int) -> None:
        for number in range(10_000):
            image = draw((20 + client, 20 + number % 200), color=(number % 256, client, 0), form="BMP")
            try:
                accepted[upload(http, image).raise_for_status().json()["id"]] = image
            except httpx.TransportError:
                return  # it has been killed
            if len(accepted) > 200:
                enough.set()

    with ThreadPoolExecutor(_CLIENTS) as pool:
        clients = [pool.submit(send, client) for client in range(_CLIENTS)]
        assert enough.wait(60)
        for part in (process.handle, *psutil.Process(process.handle.pid).children(recursive=True)):
            part.kill()
        for client in clients:
            client.result(60)
    jobs = [job for job in Ledger(patient_client(clean_redis)).get(list(accepted)) if job]
    with disk.after_power_failure(tmp_path / "after") as after:
        found = FileImageStore(after / "images").get([job.image for job in jobs])
    assert found == list(accepted.values())


def test_requests_are_answered_while_a_group_waits_for_the_disk(
    gateway: tuple[httpx.Client, Process], disk: LoopDisk
) -> None:
    http, process = gateway
    assert upload(http, draw()).status_code == 202
    with ThreadPoolExecutor(1) as pool:
        with disk.frozen():
            waiting = pool.submit(upload, http, draw())
            wait_until(lambda: waits_for_disk(process), "the image to be written")
            assert http.get("/healthz").status_code == 200
            assert http.get("/v1/status").status_code == 200
            assert not waiting.done()
        assert waiting.result(60).status_code == 202


def waits_for_disk(process: Process) -> bool:
    service = psutil.Process(process.handle.pid)
    return any(
        psutil.Process(thread.id).status() == psutil.STATUS_DISK_SLEEP
        for part in (service, *service.children(recursive=True))
        for thread in part.threads()
    )
