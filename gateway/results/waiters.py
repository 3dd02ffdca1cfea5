"""Requests that wait for a job or a submission to finish, woken by one Redis subscription per gateway process."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TypeVar

from contract.access import ANYONE, Caller
from contract.errors import UnavailableError
from contract.job import Job
from contract.ledger.ledger import Ledger
from contract.ledger.types import Change
from contract.log import get_logger

_log = get_logger(__name__)

Waiter = TypeVar("Waiter")

#: Pause before subscribing again.
_RECONNECT_S = 0.5
#: Pause between attempts to interrupt the thread during shutdown.
_STOP_S = 0.05
#: Maximum number of jobs read from the ledger in one call.
_READ_MAX_JOBS = 500


class Waiters:
    """Wakes requests when the job or submission they wait for finishes."""

    def __init__(self, ledger: Ledger, on_change: Callable[[Change | None], None] = lambda _: None) -> None:
        """Wait for jobs and submissions of a ledger; `on_change` is called in the listening thread.

        It receives each change, and None when changes may have been missed.
        """
        self._ledger = ledger
        self._on_change = on_change
        self._lock = threading.Lock()
        self._jobs: dict[str, list[Future[Job | None]]] = defaultdict(list)
        self._submissions: dict[str, list[threading.Event]] = defaultdict(list)
        self._stopped = threading.Event()
        #: Whether requests no longer wait, because the gateway stops.
        self.ended = False
        self._thread = threading.Thread(target=self._run, name="waiters", daemon=True)

    def start(self) -> None:
        """Start the listening thread; call it after the process has forked."""
        self._thread.start()

    def stop(self, disconnect: Callable[[], None]) -> None:
        """Stop the thread; `disconnect` closes the ledger's connections, because the thread blocks on one of them."""
        self._stopped.set()
        while self._thread.is_alive():
            disconnect()
            self._thread.join(_STOP_S)

    def end_waits(self) -> None:
        """Make all requests that wait, and those that would wait from now on, return the current state."""
        with self._lock:
            self.ended = True
            job_ids = list(self._jobs)
            for events in self._submissions.values():
                for event in events:
                    event.set()
        # Read the jobs together: if thousands of requests did it at the same time, some would fail.
        for start in range(0, len(job_ids), _READ_MAX_JOBS):
            group = job_ids[start : start + _READ_MAX_JOBS]
            jobs: list[Job | None] = [None] * len(group)
            with suppress(UnavailableError):
                jobs = self._ledger.get(group)
            for job_id, job in zip(group, jobs, strict=True):
                self._resolve(job_id, job)

    @contextmanager
    def expect(self, job_id: str) -> Iterator[Future[Job | None]]:
        """A future that receives the job when it finishes, or None when it is purged.

        Enter it before you submit or read the job, or the job may finish unnoticed.
        """
        finished: Future[Job | None] = Future()
        with self._registered(self._jobs, job_id, finished):
            yield finished

    @contextmanager
    def expect_submission(self, submission_id: str) -> Iterator[threading.Event]:
        """An event that is set when a submission may have finished. Enter it before you read the submission."""
        finished = threading.Event()
        with self._registered(self._submissions, submission_id, finished):
            yield finished

    def result(self, finished: Future[Job | None], job_id: str, timeout_s: float) -> Job | None:
        """The finished job, or the job in its current state after `timeout_s`; None for an unknown id."""
        with suppress(TimeoutError):
            if job := finished.result(0 if self.ended else timeout_s):
                return job
        return self._ledger.get([job_id])[0]

    def wait(self, job_id: str, timeout_s: float, reader: Caller = ANYONE) -> Job | None:
        """Wait up to `timeout_s` for a job to finish; returns it in its current state.

        Returns None for an unknown id, and for a job that `reader` may not see.
        """
        with self.expect(job_id) as finished:
            job = self._ledger.get([job_id])[0]
            if job is None or not reader.may_see(job):
                return None
            if job.status.is_final or timeout_s <= 0:
                return job
            return self.result(finished, job_id, timeout_s)

    @contextmanager
    def _registered(self, waiting: dict[str, list[Waiter]], key: str, waiter: Waiter) -> Iterator[None]:
        with self._lock:
            waiting[key].append(waiter)
        try:
            yield
        finally:
            with self._lock:
                waiting[key].remove(waiter)
                if not waiting[key]:
                    del waiting[key]

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                for change in self._ledger.changes():
                    if self._stopped.is_set():
                        return
                    if change is None or change.finished:
                        self._wake(change.ids if change else None)
                    self._on_change(change)
            except UnavailableError:
                self._stopped.wait(_RECONNECT_S)
            # Keep the thread alive: without it, every waiting request times out.
            except Exception:  # noqa: BLE001
                if not self._stopped.is_set():
                    _log.exception("The subscription to changes of jobs failed")
                self._stopped.wait(_RECONNECT_S)

    def _wake(self, ids: list[str] | None) -> None:
        """Wake the requests that wait for these jobs and submissions; with None, any of them may have finished."""
        with self._lock:
            job_ids = [job_id for job_id in ids or self._jobs if job_id in self._jobs]
            for submission_id in ids or self._submissions:
                for event in self._submissions.get(submission_id, ()):
                    event.set()
        for job_id, job in zip(job_ids, self._ledger.get(job_ids) if job_ids else [], strict=True):
            # Without `ids`, a job without a record may be about to be stored. Otherwise it was purged.
            if job.status.is_final if job else ids is not None:
                self._resolve(job_id, job)

    def _resolve(self, job_id: str, job: Job | None) -> None:
        with self._lock:
            for finished in self._jobs.get(job_id, []):
                if not finished.done():
                    finished.set_result(job)
