"""Group commit: concurrent submits share one ledger write and one message, and none waits when it is alone."""

import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from contract.errors import (
    ConflictError,
    IdempotencyMismatchError,
    PawqueueError,
    QueueFullError,
    UnavailableError,
)
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Receipt, Submit, Submitted
from contract.log import get_logger
from gateway.load import LoadMeter

_log = get_logger(__name__)

#: Puts job ids into a queue as one message; raises `UnavailableError`.
Publish = Callable[[str, Sequence[str]], None]

#: A submit that the committer has not answered by then is refused.
_ANSWER_TIMEOUT_S = 10.0
#: A queue that is full is worth another try when so many jobs have left it.
_ROOM_JOBS = 32


@dataclass(frozen=True, slots=True)
class _Entry:
    submit: Submit
    answer: "Future[Receipt]" = field(default_factory=Future)


class GroupCommitter:
    """One thread that writes whatever has gathered while it wrote the last group."""

    def __init__(
        self, ledger: Ledger, publish: Publish, load: LoadMeter, limits: QueueLimits, group_max_jobs: int
    ) -> None:
        self._ledger = ledger
        self._publish = publish
        self._load = load
        self._limits = limits
        self._group_max_jobs = group_max_jobs
        self._pending: queue.SimpleQueue[_Entry] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the thread; call it after the process has forked."""
        threading.Thread(target=self._run, name="group-commit", daemon=True).start()

    def commit(self, submit: Submit) -> Receipt:
        """Return once a job is in the ledger and in its queue, or one that stands for it was found there.

        Raises:
            QueueFullError: too much waits.
            ConflictError: the id is taken.
            IdempotencyMismatchError: the idempotency key was sent before with another image.
            UnavailableError: the ledger did not answer; whether the job was written is not known.
        """
        entry = _Entry(submit)
        self._pending.put(entry)
        try:
            return entry.answer.result(_ANSWER_TIMEOUT_S)
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

    def _gather(self) -> list[_Entry]:
        group = [self._pending.get()]
        while len(group) < self._group_max_jobs:
            try:
                group.append(self._pending.get_nowait())
            except queue.Empty:
                break
        return group

    def _write(self, group: list[_Entry]) -> None:
        try:
            receipts = self._ledger.submit([entry.submit for entry in group], self._limits)
        except PawqueueError as error:
            _refuse(group, error)
            self._refuse_pending(error)
            return
        stored: dict[str, list[tuple[_Entry, Receipt]]] = defaultdict(list)
        for entry, receipt in zip(group, receipts, strict=True):
            if receipt.is_new:
                stored[entry.submit.job.queue].append((entry, receipt))
            else:
                self._answer_known(entry, receipt)
        for name, rows in stored.items():
            self._enqueue(name, rows)

    def _answer_known(self, entry: _Entry, receipt: Receipt) -> None:
        if receipt.result is Submitted.REPEATED:
            entry.answer.set_result(receipt)
        else:
            entry.answer.set_exception(self._refusal(receipt.result))

    def _enqueue(self, name: str, rows: list[tuple[_Entry, Receipt]]) -> None:
        """Send one message. The jobs are promised already: if it cannot be sent, the reconciler sends another."""
        ids = [receipt.job_id for _, receipt in rows]
        try:
            self._publish(name, ids)
        except UnavailableError as error:
            _log.warning("Jobs are written but their message is not; it will be sent later", job_ids=ids)
            self._refuse_pending(error)
        # Whatever it is: these jobs are written, and to say anything else would be wrong.
        except Exception:  # noqa: BLE001
            _log.exception("Jobs are written but their message failed; it will be sent later", job_ids=ids)
        for entry, receipt in rows:
            entry.answer.set_result(receipt)

    def _refuse_pending(self, error: PawqueueError) -> None:
        """Refuse what came while the ledger did not answer: each next group would wait for its own time-out."""
        with suppress(queue.Empty):
            while True:
                _refuse([self._pending.get_nowait()], error)

    def _refusal(self, result: Submitted) -> PawqueueError:
        if result is Submitted.FULL:
            advice_s = self._load.advice_s(_ROOM_JOBS)
            return QueueFullError("The queue is full; nothing was stored. Send it again later.", retry_after_s=advice_s)
        if result is Submitted.MISMATCHED:
            return IdempotencyMismatchError(
                "This Idempotency-Key was sent before with another image. Use a new key for a new image."
            )
        if result is Submitted.CROWDED:
            advice_s = self._load.advice_s(_ROOM_JOBS)
            text = "Your jobs fill your share of the queue; nothing was stored. Send it again later."
            return QueueFullError(text, retry_after_s=advice_s)
        return ConflictError("A job with this id exists already, for another image. Use another id.")


def _refuse(group: Sequence[_Entry], error: Exception) -> None:
    for entry in group:
        if not entry.answer.done():
            entry.answer.set_exception(error)
