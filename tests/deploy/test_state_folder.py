"""A state folder that an earlier revision wrote still works: queued jobs finish, and results can be read."""

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy.upgrade import checked_out, running_service
from tests.support.images import draw
from tests.support.services import ROOT, Process, free_port, responds, running_redis, wait_until

#: The last commit before the packages were split into sub-packages.
_EARLIER = "c3402b34f056cc83781181bf8060d00fed3a73e9"
_COLORS = [(30 * n % 256, 90, 200 - 10 * n) for n in range(8)]


@dataclass(frozen=True)
class Installation:
    """A revision of the code, with the state folder and the Redis that it uses."""

    code: Path
    folder: Path
    redis_url: str

    @contextmanager
    def gateway(self) -> Iterator[httpx.Client]:
        port = free_port()
        with self._service("gateway", PAWQUEUE_GATEWAY_PORT=str(port)):
            wait_until(lambda: responds(f"http://127.0.0.1:{port}/readyz"), "the gateway to become ready")
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=90) as http:
                yield http

    @contextmanager
    def worker(self) -> Iterator[None]:
        port = free_port()
        with self._service("worker", PAWQUEUE_WORKER_METRICS_PORT=str(port)):
            wait_until(lambda: responds(f"http://127.0.0.1:{port}/readyz"), "the worker to become ready")
            yield

    def _service(self, package: str, **settings: str) -> AbstractContextManager[Process]:
        settings["PAWQUEUE_REDIS_URL"] = self.redis_url
        return running_service(package, package, self.code, self.folder, settings)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_queued_jobs_of_an_earlier_revision_finish_and_its_results_can_be_read(tmp_path: Path) -> None:
    if subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", _EARLIER], check=False, capture_output=True
    ).returncode:
        pytest.skip("the earlier revision is not in this checkout: run `git fetch --unshallow`")
    with checked_out(_EARLIER, tmp_path / "earlier") as code, running_redis(tmp_path) as redis_url:
        earlier = Installation(code, tmp_path, redis_url)
        with earlier.gateway() as http:
            with earlier.worker():
                finished = [_submit(http, color, wait_s=30) for color in _COLORS[:3]]
            queued = [_submit(http, color) for color in _COLORS[3:]]
            submission = http.post("/v1/submissions", json={"name": "folder"}).json()["id"]
            archive = {"Content-Type": "application/x-tar"}
            http.post(f"/v1/submissions/{submission}/jobs", content=_tar(), headers=archive).raise_for_status()
    assert {job["status"] for job in finished} == {"succeeded"}
    assert {job["status"] for job in queued} == {"queued"}

    with running_redis(tmp_path) as redis_url:
        current = Installation(ROOT, tmp_path, redis_url)
        with current.gateway() as http, current.worker():
            for job in finished:
                # Members that did not exist then are empty; all others are unchanged.
                prediction = job["prediction"] | {"familiarity": None, "labels": None}
                added = {"prediction": prediction, "warnings": [], "requested_model": None}
                assert http.get(f"/v1/jobs/{job['id']}").json() == job | added
            for job in queued:
                result = http.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=60"}).json()
                assert (result["status"], result["attempts"]) == ("succeeded", 1)
            http.post(f"/v1/submissions/{submission}/close").raise_for_status()
            closed = http.get(f"/v1/submissions/{submission}", headers={"Prefer": "wait=60"}).json()
            assert (closed["status"], closed["counts"]["succeeded"]) == ("finished", len(_COLORS))
            for order in ("after", "cursor"):
                rows = http.get(f"/v1/submissions/{submission}/results?{order}=0").text.splitlines()
                assert len(rows) == len(_COLORS)


def _submit(http: httpx.Client, color: tuple[int, int, int], wait_s: int = 0) -> dict[str, Any]:
    headers = {"Prefer": f"wait={wait_s}"} if wait_s else {}
    response = http.post("/v1/jobs", content=draw((160, 120), color, form="JPEG"), headers=headers)
    response.raise_for_status()
    job: dict[str, Any] = response.json()
    return job


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, color in enumerate(_COLORS):
            data = draw((160, 120), color, form="JPEG")
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
