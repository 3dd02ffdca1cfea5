"""Clients that upload images, and record every accepted job and every result that they receive for it."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from contract.job import new_job_id
from tests.support.images import draw

_PAUSE_S = 0.2
#: Share of jobs that the clients cancel.
_CANCELED_SHARE = 0.02


@dataclass
class AcceptedJob:
    """A job for which a client received 202 or 200."""

    id: str
    is_good: bool
    #: The model that was named; empty for the default model.
    model: str
    #: Of the image, 0..1.
    brightness: float
    #: Every final result that was received, in order.
    results: list[dict[str, Any]] = field(default_factory=list)


class Clients:
    """Threads that upload images and retry until all jobs are accepted."""

    def __init__(
        self,
        url: str,
        jobs: int,
        threads: int,
        seed: int = 0,
        models: Sequence[str] = ("",),
        webhook: str = "",
    ) -> None:
        self.jobs: list[AcceptedJob] = []
        self.refusals: dict[int, int] = {}
        self._url = url
        self._models = models
        self._webhook = webhook
        self._left = jobs
        self._allowed = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        #: By brightness.
        self._good = {
            (2 * shade + 90) / 765: draw((120, 90), (shade, shade, 90), "JPEG") for shade in range(0, 200, 20)
        }
        whole = draw((120, 90), form="BMP")
        self._bad = whole[: len(whole) // 2]
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Start the threads; they upload as `allow` permits."""
        for thread in self._threads:
            thread.start()

    @property
    def accepted(self) -> int:
        """The number of jobs accepted so far."""
        return len(self.jobs)

    def allow(self, jobs: int) -> None:
        """Permit this many more uploads."""
        if jobs > 0:
            self._allowed.release(jobs)

    def join(self, timeout_s: float) -> None:
        """Wait until all jobs are accepted."""
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            assert not thread.is_alive(), f"only {self.accepted} jobs were accepted in time"

    def collect(self, timeout_s: float) -> None:
        """Read every job until it is finished, then read every job once more."""
        end_s = time.monotonic() + timeout_s
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for job in self.jobs:
                while not job.results and time.monotonic() < end_s:
                    self._read(http, job, wait_s=5)
            for job in self.jobs:
                self._read(http, job, wait_s=0)

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as http:
            while self._claim_upload():
                self._allowed.acquire()
                job = self._submit(http)
                if self._random.random() < _CANCELED_SHARE:
                    self._cancel(http, job)
                with self._lock:
                    self.jobs.append(job)

    def _claim_upload(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _submit(self, http: httpx.Client) -> AcceptedJob:
        is_good, job_id = self._random.random() > 0.02, new_job_id()
        model, brightness = self._random.choice(self._models), self._random.choice(list(self._good))
        data = self._good[brightness] if is_good else self._bad
        params = {"model": model, "webhook": self._webhook}
        wait = {"Prefer": "wait=2"} if self._random.random() < 0.3 else {}
        while True:
            try:
                files = {"file": ("x.jpg", data)}
                response = http.put(f"/v1/jobs/{job_id}", params=params, files=files, headers=wait)
            except httpx.TransportError:
                time.sleep(_PAUSE_S)
                continue
            if response.status_code in (200, 202):
                break
            with self._lock:
                self.refusals[response.status_code] = self.refusals.get(response.status_code, 0) + 1
            if response.status_code == 503:
                assert int(response.headers["Retry-After"]) >= 1
            time.sleep(_PAUSE_S)
        job = AcceptedJob(job_id, is_good, model, brightness)
        _record(job, response.json())
        return job

    def _cancel(self, http: httpx.Client, job: AcceptedJob) -> None:
        """Cancel a job; the status in the response must be final."""
        while True:
            try:
                response = http.delete(f"/v1/jobs/{job.id}")
            except httpx.TransportError:
                time.sleep(_PAUSE_S)
                continue
            if response.status_code == 200:
                break
            assert response.status_code == 503, response.text
            time.sleep(_PAUSE_S)
        assert response.json()["status"] not in ("queued", "running")
        _record(job, response.json())

    def _read(self, http: httpx.Client, job: AcceptedJob, wait_s: int) -> None:
        try:
            response = http.get(f"/v1/jobs/{job.id}", headers={"Prefer": f"wait={wait_s}"})
        except httpx.TransportError:
            time.sleep(_PAUSE_S)
            return
        if response.status_code == 200:
            _record(job, response.json())


def _record(job: AcceptedJob, response: dict[str, Any]) -> None:
    """Record the result in a response, if it contains one."""
    if response["status"] not in ("queued", "running"):
        kept = ("status", "prediction", "model", "error", "started_at", "finished_at", "attempts")
        job.results.append({name: response[name] for name in kept})
