"""Accepts images as jobs. Single uploads, forms and archives all pass through `Acceptor`."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, nullcontext, suppress
from copy import copy
from dataclasses import dataclass, field, replace

from contract.errors import (
    BusyError,
    ConflictError,
    IdempotencyMismatchError,
    NotFoundError,
    PawqueueError,
    QueueFullError,
    UnavailableError,
    UploadError,
)
from contract.images.store import ImageStore
from contract.job import Job, new_job_id, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Receipt, Submit, SubmitStatus
from contract.log import get_logger
from contract.settings import Settings
from contract.tracing import Tracer, current_traceparent, is_sampled
from gateway import GROUP_MAX_BYTES
from gateway.accept.admission import Admission
from gateway.accept.check import UploadLimits, check_upload
from gateway.results.waiters import Waiters

_log = get_logger(__name__)

#: Maximum number of jobs in one write.
GROUP_MAX_JOBS = 32
#: How long a request waits for its group to be written.
_COMMIT_TIMEOUT_S = 10.0
#: `Retry-After` of a full queue is the estimated time until this many jobs have finished.
_FREED_JOBS = 32


class SubmissionClosedError(ConflictError):
    """The submission accepts no more images."""

    def __init__(self, detail: str = "The submission is closed. Open a new one for more images.") -> None:
        super().__init__(detail)


@dataclass(slots=True)
class Upload:
    """One image and how to process it."""

    #: Empty once the image is stored and its request only waits for the result.
    data: bytes
    queue: str
    #: File name, or path in a folder or archive; for display.
    file: str = ""
    job_id: str = field(default_factory=new_job_id)
    idempotency_key: str = ""
    #: Hash of the image, and the model, that a repeated upload must match; empty if the client chose neither an id nor
    #: a key.
    fingerprint: str = ""
    #: Seconds after which the job expires if no worker has claimed it.
    deadline_s: float | None = None
    #: Id of the API key; empty if none is required.
    owner: str = ""
    submission: str = ""
    #: As in `Job`.
    model: str = ""
    top_k: int = 0
    webhook: str = ""
    #: The id to use instead if a job of another owner has `job_id`; empty if `job_id` is random.
    own_id: str = ""
    #: As in `Job`.
    traceparent: str = field(default_factory=current_traceparent)
    #: Where a worker fetches the image; empty if it was sent.
    address: str = ""
    #: Set if reading the request already showed that this image cannot be accepted.
    error: UploadError | None = None

    def to_submit(self) -> Submit:
        """The job to store, without the reference of its image."""
        created_ms = now_ms()
        job = Job(
            id=self.job_id,
            queue=self.queue,
            created_ms=created_ms,
            file=self.file,
            size_bytes=len(self.data),
            image=self.address,
            owner=self.owner,
            submission=self.submission,
            model=self.model,
            top_k=self.top_k,
            webhook=self.webhook,
            traceparent=self.traceparent,
            deadline_ms=None if self.deadline_s is None else created_ms + int(self.deadline_s * 1000),
        )
        # Different owners may choose the same idempotency key.
        key = f"{self.owner}:{self.idempotency_key}" if self.idempotency_key else ""
        return Submit(job, key, self.fingerprint, self.own_id)


@dataclass(frozen=True, slots=True)
class UploadReceipt:
    """The job of an upload, or the error that kept it from becoming one."""

    job_id: str = ""
    #: The job, if this upload created it; None if an earlier upload did.
    new_job: Job | None = None
    error: PawqueueError | None = None


@dataclass(slots=True)
class _Entry:
    """A job to record, and its image; None if the image is stored already, or has to be fetched."""

    submit: Submit
    data: bytes | None


@dataclass(frozen=True, slots=True)
class _Pending:
    entry: _Entry
    receipt: "Future[Receipt]" = field(default_factory=Future)


def _new_job(submit: Submit, receipt: Receipt) -> Job | None:
    """The job that was stored; None if none was."""
    if not receipt.is_new:
        return None
    return submit.job if receipt.job_id == submit.job.id else replace(submit.job, id=receipt.job_id)


def of_image(error: PawqueueError, number: int, count: int) -> PawqueueError:
    """The error of one of the `count` images of a request; its detail says which, unless the request has only one."""
    if count == 1:
        return error
    error = copy(error)
    error.detail = f"Image {number} of {count}: {error.detail}"
    return error


class Acceptor:
    """Checks images, stores them and records their jobs, in that order: a queued job always has its image.

    Concurrent single uploads share one write of their images and one of their records (group commit): while the
    group-commit thread is writing, new uploads accumulate, and it writes them as the next group. An upload that arrives
    alone is written immediately. A list of uploads is already a group, so the calling thread writes it.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        images: ImageStore,
        admission: Admission,
        waiters: Waiters,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._ledger = ledger
        self._images = images
        self._admission = admission
        self._waiters = waiters
        self._upload_limits = UploadLimits(settings.upload_max_bytes, settings.upload_max_pixels)
        self._result_ttl_s = settings.result_ttl_s
        self._queue_limits = QueueLimits(settings.queue_max_jobs, settings.queue_max_bytes, settings.queue_share)
        self._group_max_jobs = min(settings.batch_size, GROUP_MAX_JOBS)
        #: Whether the last write to the ledger failed.
        self._ledger_failed = False
        self._pending: queue.SimpleQueue[_Pending | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        """Start the group-commit thread; call it after the process has forked."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._pending.put(None)
        self._thread.join()

    def submit(self, upload: Upload, wait_s: float = 0.0, stored: Callable[[], None] = lambda: None) -> Job:
        """Accept one image and return its job, after waiting at most `wait_s` for it to finish.

        Calls `stored` when the image needs no more memory.

        Raises:
            UploadError: the image is invalid.
            BusyError: the service cannot accept it now, or did not record it in time. Resend it later.
            ConflictError: the id belongs to another image.
            IdempotencyMismatchError: the idempotency key was used for another image.
        """
        # Register before the job exists: a worker may finish it immediately.
        with self._waiters.expect(upload.job_id) if wait_s > 0 else nullcontext() as finished:
            (receipt,) = self.accept([upload])
            upload.data = b""
            stored()
            if receipt.error:
                raise copy(receipt.error)  # raising an error held by a local variable would keep the image in memory
            if job := receipt.new_job:
                if finished is None:
                    return job
                if job.id == upload.job_id:
                    return self._waiters.result(finished, job.id, wait_s) or job
        # The job has another id than expected, or an earlier upload created it. It may have finished already.
        earlier = self._waiters.wait(receipt.job_id, wait_s)
        if earlier is None:
            raise NotFoundError("The job of this upload has just expired. Resend the image.")
        return earlier

    def submit_all(self, uploads: Sequence[Upload], wait_s: float, stored: Callable[[], None]) -> list[Job]:
        """Accept all of these images or none; return their jobs after waiting at most `wait_s` for them to finish.

        Calls `stored` when the images need no more memory. The ids of the uploads must be random.

        Raises:
            UploadError: an image is invalid.
            BusyError: the service cannot accept all of them now. Resend them later.
        """
        with ExitStack() as waits:
            # Register before the jobs exist: a worker may finish them immediately.
            finished = [waits.enter_context(self._waiters.expect(upload.job_id)) for upload in uploads]
            jobs = self._accept_all(uploads)
            for upload in uploads:
                upload.data = b""
            stored()
            end_s = time.monotonic() + wait_s
            return [
                self._waiters.result(result, job.id, max(0.0, end_s - time.monotonic())) or job
                for result, job in zip(finished, jobs, strict=True)
            ]

    def accept(self, uploads: Sequence[Upload]) -> list[UploadReceipt]:
        """Accept images with one write each to the image store and the ledger.

        Returns a receipt for each upload; expected errors are returned, not raised.
        """
        errors = [self._check(upload) for upload in uploads]
        valid = [upload for upload, error in zip(uploads, errors, strict=True) if error is None]
        try:
            receipts = iter(self._store(valid) if valid else ())
        except BusyError as error:
            receipts = iter([UploadReceipt(error=copy(error))] * len(valid))
        return [UploadReceipt(error=error) if error else next(receipts) for error in errors]

    def check_admission(self, owner: str) -> None:
        """Raise a `BusyError` if Redis is too full to store more records of this owner, or may evict keys."""
        self._admission.check(owner)

    def resubmit(self, submit: Submit) -> Receipt:
        """Record a job whose image is already stored.

        Raises:
            BusyError: the service cannot accept it now.
        """
        (receipt,) = self._commit([_Entry(submit, None)])
        if error := self._error_for(receipt.status):
            raise error
        return receipt

    def _accept_all(self, uploads: Sequence[Upload]) -> list[Job]:
        for number, upload in enumerate(uploads, 1):
            if error := self._check(upload):
                raise of_image(error, number, len(uploads))
        receipts = self._store(uploads)
        for refused in receipts:
            if refused.error:
                accepted = [receipt.job_id for receipt in receipts if not receipt.error]
                self._ledger.cancel(accepted, self._result_ttl_s)
                raise copy(refused.error)
        return [job for receipt in receipts if (job := receipt.new_job)]

    def _check(self, upload: Upload) -> UploadError | None:
        if upload.error or upload.address:
            return upload.error
        try:
            check_upload(upload.data, self._upload_limits)
        except UploadError as error:
            return copy(error)  # without traceback and cause, which refer to the image
        return None

    def _store(self, uploads: Sequence[Upload]) -> list[UploadReceipt]:
        self._admission.check(uploads[0].owner)
        entries = [_Entry(upload.to_submit(), None if upload.address else upload.data) for upload in uploads]
        receipts = self._commit(entries)
        return [
            UploadReceipt(receipt.job_id, _new_job(entry.submit, receipt), self._error_for(receipt.status))
            for entry, receipt in zip(entries, receipts, strict=True)
        ]

    def _error_for(self, status: SubmitStatus) -> PawqueueError | None:
        match status:
            case SubmitStatus.STORED | SubmitStatus.REPEATED:
                return None
            case SubmitStatus.FULL | SubmitStatus.SHARE_FULL:
                full = "The queue is full" if status is SubmitStatus.FULL else "Your share of the queue is full"
                text = f"{full}. Wait for the time in `Retry-After`, then resend the images that were not accepted."
                return QueueFullError(text, retry_after_s=self._admission.retry_after_s(_FREED_JOBS))
            case SubmitStatus.MISMATCHED:
                return IdempotencyMismatchError(
                    "This Idempotency-Key was used for a different image. Use a new key for a new image."
                )
            case SubmitStatus.CLOSED | SubmitStatus.PURGING:
                return SubmissionClosedError()
            case _:  # the id is taken
                return ConflictError("This id belongs to a different image of yours. Use another id or `custom_id`.")

    # Group commit

    def _commit(self, entries: Sequence[_Entry]) -> list[Receipt]:
        if len(entries) > 1:
            return self._write(entries)
        pending = _Pending(entries[0])
        self._pending.put(pending)
        try:
            return [pending.receipt.result(_COMMIT_TIMEOUT_S)]
        except TimeoutError:
            raise UnavailableError("The job could not be recorded in time. Try again shortly.") from None

    def _run(self) -> None:
        while not self._stopped.is_set():
            group = self._gather()
            try:
                receipts = self._write([pending.entry for pending in group]) if group else []
                for pending, receipt in zip(group, receipts, strict=True):
                    pending.receipt.set_result(receipt)
            # Keep the thread alive: without it, all single uploads time out.
            except Exception as error:  # noqa: BLE001
                if not isinstance(error, PawqueueError):
                    _log.exception("Could not record a group of jobs", jobs=len(group))
                for pending in group:
                    if not pending.receipt.done():
                        pending.receipt.set_exception(error)

    def _gather(self) -> list[_Pending]:
        group = [self._pending.get()]
        size_bytes = 0
        with suppress(queue.Empty):
            while group[-1] and len(group) < self._group_max_jobs:
                size_bytes += group[-1].entry.submit.job.size_bytes
                if size_bytes >= GROUP_MAX_BYTES:
                    break
                group.append(self._pending.get_nowait())
        return [pending for pending in group if pending]

    def _write(self, entries: Sequence[_Entry]) -> list[Receipt]:
        """Store images and record their jobs."""
        began_ns = time.time_ns()
        try:
            refs = self._put_images(entries)
            stored_ns = time.time_ns()
            receipts = self._record(entries)
        except UnavailableError as error:
            self._fail_pending(error)
            raise
        if self._tracer:
            self._trace(entries, began_ns, stored_ns)
        self._delete([ref for ref, receipt in zip(refs, receipts, strict=True) if ref and not receipt.is_new])
        return receipts

    def _trace(self, entries: Sequence[_Entry], began_ns: int, stored_ns: int) -> None:
        """Add the spans of a write that has just ended to the trace of each request."""
        for entry in entries:
            if self._tracer and is_sampled(parent := entry.submit.job.traceparent):
                self._tracer.record("store", parent, began_ns, stored_ns)
                self._tracer.record("record", parent, stored_ns, time.time_ns())

    def _put_images(self, entries: Sequence[_Entry]) -> list[str]:
        """Store the images that are not stored yet; returns their references, empty for the others."""
        stored = iter(self._images.put_many([entry.data for entry in entries if entry.data is not None]))
        refs = ["" if entry.data is None else next(stored) for entry in entries]
        for entry, ref in zip(entries, refs, strict=True):
            if ref:
                entry.submit = replace(entry.submit, job=replace(entry.submit.job, image=ref))
        self._check_ledger_after_failure(refs)
        return refs

    def _check_ledger_after_failure(self, refs: list[str]) -> None:
        """In an outage, delete the images before their jobs are sent: the images of all retries would fill the disk."""
        if not self._ledger_failed:
            return
        try:
            self._ledger.ping()
        except UnavailableError:
            self._delete([ref for ref in refs if ref])
            raise

    def _record(self, entries: Sequence[_Entry]) -> list[Receipt]:
        try:
            receipts = self._ledger.submit([entry.submit for entry in entries], self._queue_limits)
        except UnavailableError:
            # Keep the images: the ledger may have recorded the jobs before the connection was lost.
            self._ledger_failed = True
            raise
        self._ledger_failed = False
        return receipts

    def _delete(self, refs: list[str]) -> None:
        """Delete images that did not become jobs; if that fails, they are deleted when they expire."""
        try:
            self._images.delete(refs)
        except UnavailableError:
            _log.warning("Could not delete images that did not become jobs", count=len(refs))

    def _fail_pending(self, error: PawqueueError) -> None:
        """Fail the uploads that arrived during an outage; otherwise each group of them waits for its own timeout."""
        if threading.current_thread() is not self._thread:
            return  # a list of uploads failed; the group-commit thread handles the single ones
        with suppress(queue.Empty):
            while pending := self._pending.get_nowait():
                pending.receipt.set_exception(error)
            self._pending.put(None)  # this was the stop signal for the thread: put it back
