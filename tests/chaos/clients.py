"""Clients that keep their own list of what they were promised."""

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from contract.job import new_job_id
from tests.support.images import draw

_PAUSE_S = 0.2
#: Share of jobs that their sender cancels.
_CANCELED = 0.02


@dataclass
class Promise:
    """One job that a client got a 202 or 200 for."""

    job_id: str
    is_good: bool
    #: Every final answer that was seen, in order.
    answers: list[dict[str, Any]] = field(default_factory=list)


class Clients:
    """Threads that upload until all jobs are accepted, whatever the service goes through."""

    def __init__(self, url: str, jobs: int, threads: int, seed: int = 0) -> None:
        self.promises: list[Promise] = []
        self.refusals: dict[int, int] = {}
        self._url = url
        self._left = jobs
        self._allowed = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._good = [draw((120, 90), (shade, 90, 200 - shade), "JPEG") for shade in range(0, 200, 20)]
        whole = draw((120, 90), form="BMP")
        self._bad = whole[: len(whole) // 2]
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Begin to upload."""
        for thread in self._threads:
            thread.start()

    @property
    def accepted(self) -> int:
        """Jobs promised so far."""
        return len(self.promises)

    def allow(self, jobs: int) -> None:
        """Let so many more be uploaded."""
        if jobs > 0:
            self._allowed.release(jobs)

    def join(self, timeout_s: float) -> None:
        """Wait until all jobs are accepted."""
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
            assert not thread.is_alive(), f"only {self.accepted} jobs were accepted in time"

    def collect(self, timeout_s: float) -> None:
        """Ask for every job until it has ended, then once more."""
        end_s = time.monotonic() + timeout_s
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for promise in self.promises:
                while not promise.answers and time.monotonic() < end_s:
                    self._look(http, promise, wait_s=5)
            for promise in self.promises:
                self._look(http, promise, wait_s=0)

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10) as http:
            while self._take_one():
                self._allowed.acquire()
                promise = self._submit(http)
                if self._random.random() < _CANCELED:
                    self._cancel(http, promise)
                with self._lock:
                    self.promises.append(promise)

    def _take_one(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _submit(self, http: httpx.Client) -> Promise:
        is_good, job_id = self._random.random() > 0.02, new_job_id()
        data = self._random.choice(self._good) if is_good else self._bad
        wait = {"Prefer": "wait=2"} if self._random.random() < 0.3 else {}
        while True:
            try:
                answer = http.put(f"/v1/jobs/{job_id}", files={"file": ("x.jpg", data)}, headers=wait)
            except httpx.TransportError:
                time.sleep(_PAUSE_S)
                continue
            if answer.status_code in (200, 202):
                break
            with self._lock:
                self.refusals[answer.status_code] = self.refusals.get(answer.status_code, 0) + 1
            if answer.status_code == 503:
                assert int(answer.headers["Retry-After"]) >= 1
            time.sleep(_PAUSE_S)
        promise = Promise(job_id, is_good)
        _note(promise, answer.json())
        return promise

    def _cancel(self, http: httpx.Client, promise: Promise) -> None:
        """Withdraw a job; whatever state the answer says is final."""
        while True:
            try:
                answer = http.delete(f"/v1/jobs/{promise.job_id}")
            except httpx.TransportError:
                time.sleep(_PAUSE_S)
                continue
            if answer.status_code == 200:
                break
            assert answer.status_code == 503, answer.text
            time.sleep(_PAUSE_S)
        assert answer.json()["status"] not in ("queued", "running")
        _note(promise, answer.json())

    def _look(self, http: httpx.Client, promise: Promise, wait_s: int) -> None:
        try:
            answer = http.get(f"/v1/jobs/{promise.job_id}", headers={"Prefer": f"wait={wait_s}"})
        except httpx.TransportError:
            time.sleep(_PAUSE_S)
            return
        if answer.status_code == 200:
            _note(promise, answer.json())


def _note(promise: Promise, job: dict[str, Any]) -> None:
    if job["status"] not in ("queued", "running"):
        kept = ("status", "prediction", "error", "finished_at")
        promise.answers.append({name: job[name] for name in kept} | {"attempts": job["attempts"]})
