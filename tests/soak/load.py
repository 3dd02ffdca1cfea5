"""A steady load of mixed requests, at a given rate."""

import random
import threading
import time
from collections import Counter

import httpx

from contract.job import new_job_id
from tests.support.images import draw

_THREADS = 16
#: While this many images are unfinished, no more are sent: other programs may keep the machine busy.
_MAX_OPEN = 200


class Load:
    """Threads that together upload images at a given rate. Half of the uploads wait for the result, the others poll."""

    def __init__(self, url: str, seed: int = 0) -> None:
        self.results: Counter[str] = Counter()
        self.held_back = 0
        self._url = url
        self._random = random.Random(seed)
        self._good = [draw((500, 375), (shade, 90, 200 - shade), "JPEG") for shade in range(0, 200, 20)]
        whole = draw((120, 90), form="BMP")
        self._bad = whole[: len(whole) // 2]
        self._open = 0
        self._changed = threading.Condition()
        self._permits = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_THREADS)]

    def start(self) -> None:
        """Start the threads; they wait for `run` or `capacity`."""
        for thread in self._threads:
            thread.start()

    def run(self, rate: float, duration_s: float) -> float:
        """Send `rate` images per second for this duration; returns the actual rate."""
        began_s, sent = time.monotonic(), 0
        while (elapsed_s := time.monotonic() - began_s) < duration_s:
            due = int(elapsed_s * rate)
            if sent < due and self._may_send():
                self._permits.release()
                sent += 1
            else:
                self.held_back += sent < due
                time.sleep(0.005)
        return sent / duration_s

    def capacity(self, duration_s: float) -> float:
        """Measure the images per second that the service can process."""
        before, began_s = sum(self.results.values()), time.monotonic()
        self._permits.release(100_000)
        time.sleep(duration_s)
        while self._permits.acquire(blocking=False):
            pass
        self.wait_idle(60)
        return (sum(self.results.values()) - before) / (time.monotonic() - began_s)

    def wait_idle(self, timeout_s: float) -> None:
        """Wait until every image that was sent is finished."""
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0, timeout_s)

    def stop(self) -> None:
        """Stop the threads."""
        self._stopping.set()
        self._permits.release(_THREADS)
        for thread in self._threads:
            thread.join(60)

    def _may_send(self) -> bool:
        with self._changed:
            return self._open < _MAX_OPEN

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=60) as http:
            while True:
                self._permits.acquire()
                if self._stopping.is_set():
                    return
                self._count(1)
                try:
                    status = self._process_one(http)
                except httpx.TransportError as error:
                    status = type(error).__name__
                self._count(-1)
                with self._changed:
                    self.results[status] += 1

    def _count(self, change: int) -> None:
        with self._changed:
            self._open += change
            self._changed.notify_all()

    def _process_one(self, http: httpx.Client) -> str:
        kind, address = self._random.random(), f"/v1/jobs/{new_job_id()}"
        data = self._bad if kind < 0.02 else self._random.choice(self._good)
        query = {"queue": "bulk"} if kind > 0.7 else {}
        wait = {"Prefer": "wait=30"} if kind < 0.5 else {}
        response = http.put(address, content=data, params=query, headers=wait)
        if response.status_code == 202 and kind > 0.98:
            response = http.delete(address)
        for _ in range(60):
            job = response.json()
            if job["status"] not in ("queued", "running"):
                return str(job["status"])
            response = http.get(address, headers={"Prefer": "wait=1"})
        return "unfinished"
