"""Clients that send images during the checks and record which jobs were accepted."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.images import draw


class Clients:
    """Threads that send single images until stopped."""

    def __init__(self, url: str, key: str, threads: int = 3) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {key}"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(threads)]
        #: Ids of accepted jobs.
        self.accepted: list[str] = []
        #: Other responses: HTTP statuses, or names of connection errors.
        self.not_accepted: Counter[str] = Counter()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send images until the context exits."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def results(self) -> Counter[str]:
        """Wait for every accepted job; returns the number of jobs by final status."""
        found: Counter[str] = Counter()
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=90) as http:
            for job_id in self.accepted:
                response = http.get(f"/v1/jobs/{job_id}", headers={"Prefer": "wait=60"})
                found[response.json().get("status", str(response.status_code))] += 1
        return found

    def _send(self, number: int) -> None:
        image = draw((160, 120), (60 * number, 90, 30), form="JPEG")
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=20) as http:
            while not self._stop.wait(0.02):
                try:
                    response = http.post("/v1/jobs", content=image)
                except httpx.HTTPError as error:
                    self.not_accepted[type(error).__name__] += 1
                    self._stop.wait(0.5)
                    continue
                if response.status_code == 202:
                    self.accepted.append(response.json()["id"])
                else:
                    self.not_accepted[str(response.status_code)] += 1
                    self._stop.wait(0.5)
