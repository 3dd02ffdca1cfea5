"""Writes results to the ledger; results that arrive during a write are written together in the next one."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from contract.errors import UnavailableError
from contract.job import JobResult, Timings, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Committed, final_status
from contract.log import get_logger
from worker.pipeline.gate import Gate
from worker.pipeline.item import Item, counts
from worker.pipeline.release import Releaser
from worker.upkeep.leases import LeaseKeeper
from worker.upkeep.metrics import WorkerMetrics

_log = get_logger(__name__)

#: Maximum number of results in one write.
_GROUP_MAX = 128
#: Pause before a write is retried while the ledger is unavailable.
_RETRY_S = 0.5


class Committer:
    """A thread that commits results, then drops the leases, releases the images and frees the room in the gate."""

    def __init__(
        self,
        gate: Gate,
        ledger: Ledger,
        releaser: Releaser,
        leases: LeaseKeeper,
        after: Sequence[Callable[[Item, JobResult], object]],
        metrics: WorkerMetrics,
        result_ttl_s: int,
    ) -> None:
        self._gate = gate
        self._ledger = ledger
        self._releaser = releaser
        self._leases = leases
        #: Called for each committed result; they must not block.
        self._after = after
        self._metrics = metrics
        self._result_ttl_s = result_ttl_s
        self._pending: queue.SimpleQueue[tuple[Item, JobResult] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: Item, result: JobResult) -> None:
        """Queue a result for the next write."""
        self._pending.put((item, result))

    def stop(self) -> None:
        """Write the remaining results, then stop the thread."""
        self._pending.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._gather():
            try:
                self._write(group)
            # The thread must keep running. The leases of these jobs expire, and the jobs are retried.
            except Exception:  # noqa: BLE001
                _log.exception("Results could not be written", jobs=len(group))
                self._leases.drop(item.claim for item, _ in group)
                self._gate.leave(counts(item for item, _ in group))

    def _gather(self) -> list[tuple[Item, JobResult]]:
        """Wait for results and return all that have arrived; returns an empty list after `stop`."""
        first = self._pending.get()
        if first is None:
            return []
        group = [first]
        while len(group) < _GROUP_MAX:
            try:
                entry = self._pending.get_nowait()
            except queue.Empty:
                break
            if entry is None:
                self._pending.put(None)  # ends the next call
                break
            group.append(entry)
        return group

    def _write(self, group: Sequence[tuple[Item, JobResult]]) -> None:
        committed = self._commit(group)
        self._leases.drop(item.claim for item, _ in group)
        finished_ms = now_ms()
        finished: list[tuple[Item, JobResult]] = []
        for (item, result), done in zip(group, committed, strict=True):
            if done is Committed.FINISHED:
                self._report(item, result, finished_ms)
                for follow in self._after:
                    follow(item, result)
                finished.append((item, result))
            elif done is Committed.RETRIED:
                _log.warning("A canary failed on a job; the live version processes it", **item.claim.job.log_fields())
            else:
                self._metrics.late_commits.inc()
        self._releaser.release(finished)
        self._gate.leave(counts(item for item, _ in group))

    def _commit(self, group: Sequence[tuple[Item, JobResult]]) -> list[Committed]:
        """Commit results, retrying until the ledger is available."""
        rows = [(item.claim, result) for item, result in group]
        first = {item.claim.job.id for item, _ in group if item.is_first}
        while True:
            try:
                return self._ledger.commit(rows, self._result_ttl_s, first_of_batch=first)
            except UnavailableError:
                time.sleep(_RETRY_S)

    def _report(self, item: Item, result: JobResult, finished_ms: int) -> None:
        self._metrics.observe(item.claim.job, item.model.name, result.timings or Timings(), finished_ms)
        job = replace(item.claim.job, status=final_status(result), result=result, finished_ms=finished_ms)
        _log.info("Job finished", action="job_ended", status=str(job.status), **job.log_fields())
