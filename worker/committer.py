"""Writes results: whatever has gathered while the last write was on its way goes into one round trip."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from contract.errors import UnavailableError
from contract.images.store import ImageStore
from contract.job import JobResult, Timings, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import final_status
from contract.log import get_logger
from worker.leases import LeaseKeeper
from worker.message import Item
from worker.metrics import WorkerMetrics

_log = get_logger(__name__)

_GROUP_MAX = 128
#: Pause before a ledger that does not answer is tried again.
_RETRY_S = 0.5


class ResultCommitter:
    """One thread that commits results, frees leases and images, and finishes messages."""

    def __init__(
        self,
        ledger: Ledger,
        images: ImageStore,
        leases: LeaseKeeper,
        metrics: WorkerMetrics,
        result_ttl_s: int,
        show: Callable[[Item], object] = id,
    ) -> None:
        self._ledger = ledger
        self._images = images
        self._leases = leases
        self._metrics = metrics
        self._result_ttl_s = result_ttl_s
        #: Gets each image whose job has ended; it must not wait.
        self._show = show
        self._pending: queue.SimpleQueue[tuple[Item, JobResult] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: Item, result: JobResult) -> None:
        """Have a result written soon."""
        self._pending.put((item, result))

    def stop(self) -> None:
        """Write what waits, then end the thread."""
        self._pending.put(None)
        self._thread.join()

    def _run(self) -> None:
        while group := self._gather():
            try:
                self._write(group)
            # The thread must live on. The leases of these jobs run out, and they are tried again.
            except Exception:  # noqa: BLE001
                _log.exception("Results could not be written", jobs=len(group))
                self._leases.drop(item.claim for item, _ in group)
                for item, _ in group:
                    item.message.finish_one()

    def _gather(self) -> list[tuple[Item, JobResult]]:
        """Wait for results; an empty list at the end."""
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
                self._pending.put(None)  # for the next round
                break
            group.append(entry)
        return group

    def _write(self, group: Sequence[tuple[Item, JobResult]]) -> None:
        committed = self._commit([(item, result) for item, result in group])
        self._leases.drop(item.claim for item, _ in group)
        ended_ms = now_ms()
        for (item, result), is_ours in zip(group, committed, strict=True):
            if is_ours:
                self._report(item, result, ended_ms)
                self._show(item)
            else:
                self._metrics.late_commits.inc()
        self._free([item for (item, _), is_ours in zip(group, committed, strict=True) if is_ours])
        for item, _ in group:
            item.message.finish_one()

    def _commit(self, group: Sequence[tuple[Item, JobResult]]) -> list[bool]:
        """Commit; while the ledger does not answer, keep trying: the fence decides if it is too late."""
        rows = [(item.claim, result) for item, result in group]
        while True:
            try:
                return self._ledger.commit(rows, self._result_ttl_s)
            except UnavailableError:
                time.sleep(_RETRY_S)

    def _report(self, item: Item, result: JobResult, ended_ms: int) -> None:
        self._metrics.observe(item.claim.job, result.timings or Timings(), ended_ms)
        job = replace(item.claim.job, status=final_status(result), result=result, finished_ms=ended_ms)
        _log.info("Job ended", action="job_ended", status=str(job.status), **job.log_fields())

    def _free(self, items: Sequence[Item]) -> None:
        try:
            self._images.delete([item.claim.job.image for item in items if item.claim.job.image])
        except UnavailableError:
            _log.warning("Images of ended jobs were not deleted", count=len(items))
