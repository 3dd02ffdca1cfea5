"""Requests that wait for a job to end, woken by one subscription for the whole process."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from contract.access import ANYONE, Caller
from contract.errors import UnavailableError
from contract.job import Job
from contract.ledger.ledger import Ledger
from contract.log import get_logger

_log = get_logger(__name__)

#: Pause before the subscription is tried again.
_RECONNECT_S = 0.5


class Waiters:
    """Who waits for which job."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Future[Job]]] = defaultdict(list)
        #: Submission -> who waits for its end.
        self._bells: dict[str, list[threading.Event]] = defaultdict(list)

    def start(self) -> None:
        """Start the listening thread; call it after the process has forked."""
        threading.Thread(target=self._run, name="waiters", daemon=True).start()

    @contextmanager
    def expect(self, job_id: str) -> Iterator[Future[Job]]:
        """A future that gets the job when it ends.

        Enter before the job is submitted or read, so that no end is missed.
        """
        ended: Future[Job] = Future()
        with self._lock:
            self._waiting[job_id].append(ended)
        try:
            yield ended
        finally:
            with self._lock:
                self._waiting[job_id].remove(ended)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]

    def result(self, ended: Future[Job], job_id: str, timeout_s: float) -> Job | None:
        """Wait for the job to end; at the time-out its present state is read, None for an unknown id."""
        try:
            return ended.result(timeout_s)
        except TimeoutError:
            return self._ledger.get([job_id])[0]

    def wait(self, job_id: str, timeout_s: float, reader: Caller = ANYONE) -> Job | None:
        """The job as soon as it has ended, its present state after `timeout_s`.

        None for an unknown id, and for a job that `reader` may not see.
        """
        with self.expect(job_id) as ended:
            job = self._ledger.get([job_id])[0]
            if job is None or not reader.may_see(job):
                return None
            if job.status.is_final or timeout_s <= 0:
                return job
            return self.result(ended, job_id, timeout_s)

    @contextmanager
    def bell(self, submission_id: str) -> Iterator[threading.Event]:
        """An event that is set when a submission may have ended; enter before it is read."""
        bell = threading.Event()
        with self._lock:
            self._bells[submission_id].append(bell)
        try:
            yield bell
        finally:
            with self._lock:
                self._bells[submission_id].remove(bell)
                if not self._bells[submission_id]:
                    del self._bells[submission_id]

    def _run(self) -> None:
        while True:
            try:
                for job_ids in self._ledger.ended():
                    self._wake(job_ids)
            except UnavailableError:
                time.sleep(_RECONNECT_S)
            # The thread must live on: without it every waiting request would run into its time-out.
            except Exception:  # noqa: BLE001
                _log.exception("The subscription to ended jobs failed")
                time.sleep(_RECONNECT_S)

    def _wake(self, job_ids: list[str] | None) -> None:
        """Hand ended jobs to who waits; None: any of them may have ended unheard."""
        with self._lock:
            wanted = [job_id for job_id in (job_ids or self._waiting) if job_id in self._waiting]
            for bell in (bell for one_id in (job_ids or self._bells) for bell in self._bells.get(one_id, ())):
                bell.set()
        for job in self._ledger.get(wanted) if wanted else []:
            if job is not None and job.status.is_final:
                self._resolve(job)

    def _resolve(self, job: Job) -> None:
        with self._lock:
            for ended in self._waiting.get(job.id, []):
                if not ended.done():
                    ended.set_result(job)
