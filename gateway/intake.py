"""The use case: many images in, many jobs out; a group of them shares each write, and few are in memory at a time."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contract.broker import MESSAGE_MAX_JOBS
from contract.errors import BusyError, ConflictError, PawqueueError, QueueFullError, UnavailableError, UploadError
from contract.images.store import ImageStore
from contract.job import Job, JobError, JobResult, JobStatus, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import QueueLimits, Receipt, Submit, Submitted
from contract.log import get_logger
from contract.submission import Submission, image_job_id
from gateway.committer import Publish
from gateway.incoming import CUSTOM_ID_MAX, Incoming
from gateway.load import LoadMeter
from gateway.uploads import UploadLimits, check_upload

_log = get_logger(__name__)

#: A group is written when it holds so many images, or so many bytes of them.
_GROUP_MAX_JOBS, _GROUP_MAX_BYTES = MESSAGE_MAX_JOBS, 8_000_000
#: A queue that is full is worth another try when so many jobs have left it.
_ROOM_JOBS = MESSAGE_MAX_JOBS
#: Of the hash by which an image that is sent again is recognized.
_FINGERPRINT_BYTES = 16
_TAKEN = "Another image was sent under this custom_id before. Use another custom_id."
_CLOSED = "The submission is closed: it takes no more images. Open another one."


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image that is no job, and why: not the error itself, which would keep the image in memory."""

    custom_id: str
    code: str
    detail: str


@dataclass
class Taken:
    """What became of the images of one request."""

    #: custom_id, job id, whether it was sent before.
    accepted: list[tuple[str, str, bool]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    #: To be sent again, when the reason is gone.
    left: list[str] = field(default_factory=list)
    #: Why not all was taken.
    stopped: PawqueueError | None = None

    def to_dict(self) -> dict[str, Any]:
        """The members of the answer."""
        return {
            "accepted": [
                {"custom_id": custom_id, "job_id": job_id, "repeated": repeated}
                for custom_id, job_id, repeated in self.accepted
            ],
            "rejected": [asdict(one) for one in self.rejected],
            "left": self.left,
            "left_from": self.left[0] if self.left else None,
        }


@dataclass(frozen=True)
class Intake:
    """Checks images, stores them, records them, queues them: in that order, a group at a time."""

    images: ImageStore
    ledger: Ledger
    #: Puts job ids into a queue as one message; raises `UnavailableError`.
    publish: Publish
    load: LoadMeter
    queue_limits: QueueLimits
    upload_limits: UploadLimits
    #: How long rejected images are kept, in seconds.
    ttl_s: int

    def add(self, submission: Submission, photos: Iterable[Incoming]) -> Taken:
        """Take images until they end, or until something stops it; one that cannot be used stops nothing."""
        taken = Taken()
        try:
            for group in _groups(photos):
                self._take(submission, group, taken)
                if taken.stopped:
                    break
        except (UploadError, BusyError) as error:
            taken.stopped = error
        return taken

    def _take(self, submission: Submission, group: Sequence[Incoming], taken: Taken) -> None:
        good = [photo for photo in group if self._is_good(photo, taken)]
        rejected = taken.rejected[-(len(group) - len(good)) :] if len(good) < len(group) else []
        try:
            self.load.refuse_when_full()
            self._store(submission, good, taken)
            self._record(submission, rejected)
        except UnavailableError as error:
            known = {custom_id for custom_id, _, _ in taken.accepted[-len(group) :]}
            taken.left += [photo.custom_id for photo in good if photo.custom_id not in known]
            taken.stopped = error

    def _is_good(self, photo: Incoming, taken: Taken) -> bool:
        try:
            if photo.refused:
                raise photo.refused
            check_upload(photo.data, self.upload_limits)
        except UploadError as error:
            taken.rejected.append(Rejected(photo.custom_id, error.code, error.detail))
            return False
        return True

    def _store(self, submission: Submission, good: Sequence[Incoming], taken: Taken) -> None:
        if not good:
            return
        refs = self.images.put_many([photo.data for photo in good])
        submits = [_submit(submission, *pair) for pair in zip(good, refs, strict=True)]
        # When the ledger does not answer, the jobs may be written all the same: then their images must stay.
        receipts = self.ledger.submit(submits, self.queue_limits)
        self._drop([ref for ref, receipt in zip(refs, receipts, strict=True) if not receipt.is_new])
        self._enqueue(submission.queue, [receipt.job_id for receipt in receipts if receipt.is_new])
        for photo, receipt in zip(good, receipts, strict=True):
            self._note(photo.custom_id, receipt, taken)

    def _drop(self, refs: list[str]) -> None:
        """Delete images that nobody waits for; where that fails, age will do it."""
        try:
            self.images.delete(refs)
        except UnavailableError:
            _log.warning("Images that became no jobs were not deleted", count=len(refs))

    def _enqueue(self, queue: str, job_ids: list[str]) -> None:
        """Send one message. The jobs are promised already: if it cannot be sent, the reconciler sends another."""
        if not job_ids:
            return
        try:
            self.publish(queue, job_ids)
        # Whatever it is: these jobs are written, and to say anything else would be wrong.
        except Exception:  # noqa: BLE001
            _log.exception("Jobs are written but their message is not; it will be sent later", job_ids=job_ids)

    def _note(self, custom_id: str, receipt: Receipt, taken: Taken) -> None:
        if receipt.result in (Submitted.STORED, Submitted.REPEATED):
            taken.accepted.append((custom_id, receipt.job_id, not receipt.is_new))
        elif receipt.result in (Submitted.FULL, Submitted.CROWDED):
            taken.left.append(custom_id)
            taken.stopped = taken.stopped or self._full(receipt.result)
        elif receipt.result is Submitted.CLOSED:
            taken.left.append(custom_id)
            taken.stopped = closed_error()
        else:
            taken.rejected.append(Rejected(custom_id, ConflictError.code, _TAKEN))

    def _full(self, result: Submitted) -> QueueFullError:
        what = "The queue is full" if result is Submitted.FULL else "Your jobs fill your share of the queue"
        advice_s = self.load.advice_s(_ROOM_JOBS)
        return QueueFullError(f"{what}. Send the images from `left_from` on again later.", retry_after_s=advice_s)

    def _record(self, submission: Submission, rejected: Sequence[Rejected]) -> None:
        if rejected:
            self.ledger.reject([_rejected_job(submission, one) for one in rejected if one.custom_id], self.ttl_s)


def closed_error() -> ConflictError:
    """The error of a submission that takes no more images."""
    return ConflictError(_CLOSED)


def _groups(photos: Iterable[Incoming]) -> Iterator[list[Incoming]]:
    """Images in groups; what had come before the reading failed is a group, too."""
    group: list[Incoming] = []
    size = 0
    try:
        for photo in photos:
            group.append(photo)
            size += len(photo.data)
            if len(group) == _GROUP_MAX_JOBS or size >= _GROUP_MAX_BYTES:
                yield group
                group, size = [], 0
    except UploadError:
        if group:
            yield group
        raise
    if group:
        yield group


def _submit(submission: Submission, photo: Incoming, ref: str) -> Submit:
    created_ms = now_ms()
    deadline_s = submission.deadline_s
    job = Job(
        id=image_job_id(submission.id, photo.custom_id),
        queue=submission.queue,
        created_ms=created_ms,
        file=photo.custom_id,
        size_bytes=len(photo.data),
        owner=submission.owner,
        submission=submission.id,
        image=ref,
        deadline_ms=None if deadline_s is None else created_ms + int(deadline_s * 1000),
    )
    return Submit(job, fingerprint=_fingerprint(photo.data))


def _fingerprint(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()[:_FINGERPRINT_BYTES]).decode().rstrip("=")


def _rejected_job(submission: Submission, rejected: Rejected) -> Job:
    return Job(
        id=image_job_id(submission.id, rejected.custom_id),
        queue=submission.queue,
        created_ms=now_ms(),
        status=JobStatus.FAILED,
        file=rejected.custom_id[:CUSTOM_ID_MAX],
        owner=submission.owner,
        submission=submission.id,
        result=JobResult(error=JobError(rejected.code, rejected.detail)),
    )
