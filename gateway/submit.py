"""The use case: one image in, one job out."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from contract.errors import ConflictError, NotFoundError, PawqueueError, UnavailableError
from contract.images.store import ImageStore
from contract.job import Job, new_job_id, now_ms
from contract.ledger.types import Receipt, Submit
from gateway.committer import GroupCommitter
from gateway.load import LoadMeter
from gateway.uploads import UploadLimits, check_upload
from gateway.waiters import Waiters

_FILE_NAME_MAX = 255


@dataclass(frozen=True, slots=True)
class Upload:
    """An image and how its sender wants it treated."""

    data: bytes
    queue: str
    file: str = ""
    #: Chosen by the sender; empty: a new one is made.
    job_id: str = ""
    #: The sender's name for this upload, so that sending it again does no harm.
    idempotency_key: str = ""
    #: Seconds after which nobody wants the result any more.
    deadline_s: float | None = None
    #: Seconds to wait for the result.
    wait_s: float = 0.0
    #: Id of the API key that it came with; empty where none is asked for.
    owner: str = ""

    @property
    def owned_key(self) -> str:
        """The idempotency key, apart from those of other owners; empty without one."""
        return f"{self.owner}:{self.idempotency_key}" if self.idempotency_key else ""

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same upload sent again is to be recognized."""
        return bool(self.job_id or self.idempotency_key)


@dataclass(frozen=True)
class Submitter:
    """Checks an image, stores it, records it, queues it.

    In that order, so that a queued job always has its image.
    """

    images: ImageStore
    committer: GroupCommitter
    waiters: Waiters
    load: LoadMeter
    limits: UploadLimits
    _in_flight: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def submit(self, upload: Upload) -> Job:
        """Accept an image as a job, or recognize one that was accepted before.

        Returns:
            The job: final if it ended in time, else as it stands.

        Raises:
            UploadError: the image was refused.
            BusyError: it was not accepted for now; nothing is kept of it.
            ConflictError: the id is taken, or the same upload is being accepted just now.
            IdempotencyMismatchError: the idempotency key was sent before with another image.
        """
        check_upload(upload.data, self.limits)
        self.load.refuse_when_full()
        with self._only_one(upload.owned_key) if upload.idempotency_key else nullcontext():
            return self._store(upload)

    def _store(self, upload: Upload) -> Job:
        image = self.images.put(upload.data)
        job = _job_of(upload, image)
        fingerprint = hashlib.sha256(upload.data).hexdigest() if upload.may_be_repeated else ""
        with self.waiters.expect(job.id) if upload.wait_s > 0 else nullcontext() as ended:
            receipt = self._commit(Submit(job, upload.owned_key, fingerprint))
            # A job that was there before may have ended unheard.
            if ended and receipt.is_new:
                return self.waiters.result(ended, job.id, upload.wait_s) or job
        return job if receipt.is_new else self._known(receipt.job_id, upload.wait_s)

    def _commit(self, submit: Submit) -> Receipt:
        """Have the job written; the receipt names the job that stands for the upload.

        Its image goes again if it was refused or another job stands for it. When the ledger did not answer the job
        may have been written all the same: then the image stays, and is swept with age if nobody wants it.
        """
        try:
            receipt = self.committer.commit(submit)
        except UnavailableError:
            raise
        except PawqueueError:
            self.images.delete([submit.job.image])
            raise
        if not receipt.is_new:
            self.images.delete([submit.job.image])
        return receipt

    def _known(self, job_id: str, wait_s: float) -> Job:
        job = self.waiters.wait(job_id, wait_s)
        if job is None:
            raise NotFoundError(
                "The job that stands for this upload is gone: its time to live has ended. Send it again."
            )
        return job

    @contextmanager
    def _only_one(self, idempotency_key: str) -> Iterator[None]:
        """Let one upload of an idempotency key through at a time."""
        with self._lock:
            if idempotency_key in self._in_flight:
                raise ConflictError(
                    "An upload with this Idempotency-Key is being accepted just now. Ask again shortly."
                )
            self._in_flight.add(idempotency_key)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight.discard(idempotency_key)


def _job_of(upload: Upload, image: str) -> Job:
    created_ms = now_ms()
    return Job(
        id=upload.job_id or new_job_id(),
        queue=upload.queue,
        created_ms=created_ms,
        file=clean_name(upload.file),
        size_bytes=len(upload.data),
        owner=upload.owner,
        image=image,
        deadline_ms=None if upload.deadline_s is None else created_ms + int(upload.deadline_s * 1000),
    )


def clean_name(name: str) -> str:
    """A file name as it may stand in records and logs."""
    return "".join(character for character in name if character.isprintable())[:_FILE_NAME_MAX]
