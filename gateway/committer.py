"""Group commit: concurrent submits share one ledger write and one message, and none waits when it is alone."""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from contract.errors import ConflictError, PawqueueError, QueueFullError, UnavailableError
from contract.job import Job
from contract.ledger import Ledger, Submitted
from contract.log import get_logger

_log = get_logger(__name__)

#: Puts job ids into a queue as one message; raises `UnavailableError`.
Publish = Callable[[str, Sequence[str]], None]

#: A submit that the committer has not answered by then is refused.
_ANSWER_TIMEOUT_S = 10.0
_RETRY_AFTER_S = 5


class GroupCommitter:
    """One thread that writes whatever has gathered while it wrote the last group."""

    def __init__(self, ledger: Ledger, publish: Publish, *, group_max_jobs: int, queue_max_jobs: int) -> None:
        self._ledger = ledger
        self._publish = publish
        self._group_max_jobs = group_max_jobs
        self._queue_max_jobs = queue_max_jobs
        self._pending: queue.SimpleQueue[tuple[Job, Future[None]]] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread; call it after the process has forked."""
        threading.Thread(target=self._run, name="group-commit", daemon=True).start()

    def commit(self, job: Job) -> None:
        """Return once `job` is in the ledger and in its queue.

        Raises:
            QueueFullError: too many jobs wait.
            ConflictError: the id is taken.
            UnavailableError: ledger or queue did not answer; the job was not accepted.
        """
        written: Future[None] = Future()
        self._pending.put((job, written))
        try:
            written.result(_ANSWER_TIMEOUT_S)
        except TimeoutError:
            raise UnavailableError("The job could not be written in time; try again shortly.") from None

    def _run(self) -> None:
        while True:
            group = self._gather()
            try:
                self._write(group)
            # The thread must live on: without it no job is ever accepted again.
            except Exception as error:  # noqa: BLE001
                _log.exception("A group of jobs could not be written", jobs=len(group))
                _refuse(group, error)

    def _gather(self) -> list[tuple[Job, Future[None]]]:
        group = [self._pending.get()]
        while len(group) < self._group_max_jobs:
            try:
                group.append(self._pending.get_nowait())
            except queue.Empty:
                break
        return group

    def _write(self, group: list[tuple[Job, Future[None]]]) -> None:
        try:
            results = self._ledger.submit([job for job, _ in group], self._queue_max_jobs)
        except PawqueueError as error:
            _refuse(group, error)
            return
        by_queue: dict[str, list[tuple[Job, Future[None]]]] = defaultdict(list)
        for (job, written), result in zip(group, results, strict=True):
            if result is Submitted.STORED:
                by_queue[job.queue].append((job, written))
            else:
                written.set_exception(_refusal(result))
        for name, stored in by_queue.items():
            self._enqueue(name, stored)

    def _enqueue(self, name: str, stored: list[tuple[Job, Future[None]]]) -> None:
        ids = [job.id for job, _ in stored]
        try:
            self._publish(name, ids)
        except PawqueueError as error:
            self._withdraw(ids)
            _refuse(stored, error)
            return
        for _, written in stored:
            written.set_result(None)

    def _withdraw(self, ids: list[str]) -> None:
        try:
            self._ledger.withdraw(ids)
        except UnavailableError:
            _log.warning("Jobs that were not acknowledged stay in the ledger", job_ids=ids)


def _refusal(result: Submitted) -> PawqueueError:
    if result is Submitted.FULL:
        return QueueFullError(
            "The queue is full; nothing was stored. Send it again later.", retry_after_s=_RETRY_AFTER_S
        )
    return ConflictError("A job with this id exists already. Use another id, or read the job that is there.")


def _refuse(group: list[tuple[Job, Future[None]]], error: Exception) -> None:
    for _, written in group:
        if not written.done():
            written.set_exception(error)
