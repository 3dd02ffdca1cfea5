"""Submissions: many images sent together. Operations to open one, add images, close or cancel it, and read it."""

import hashlib
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from contract.access import Caller
from contract.errors import (
    BusyError,
    ConflictError,
    IdempotencyMismatchError,
    NotFoundError,
    PawqueueError,
    TooManySubmissionsError,
    UnavailableError,
    UploadError,
)
from contract.job import Job, JobError, JobResult, JobStatus, new_job_id, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import SubmitStatus
from contract.purge import Purger
from contract.submission import Submission, image_job_id, named_submission_id
from contract.web.turns import yield_turn
from gateway import GROUP_MAX_BYTES
from gateway.accept.acceptor import GROUP_MAX_JOBS, Acceptor, SubmissionClosedError, Upload
from gateway.accept.model_names import ModelNames
from gateway.accept.own_ids import OwnIds
from gateway.accept.received import ReceivedImage
from gateway.results.waiters import Waiters

#: How many rejected images, and how many system files, a response lists. A form cannot contain more.
LISTED_MAX = 100
#: Jobs canceled in one ledger call; more would block Redis for too long.
_CANCEL_GROUP = 500
_FINGERPRINT_BYTES = 16
#: `Retry-After` for a client with too many open submissions.
_OPEN_RETRY_S = 60


@dataclass(frozen=True, slots=True)
class SubmissionOptions:
    """What a client chooses when it opens a submission."""

    name: str
    queue: str
    deadline_s: float | None = None
    #: As in `Job`.
    model: str = ""
    top_k: int = 0
    webhook: str = ""


@dataclass(frozen=True, slots=True)
class RejectedImage:
    """An image that did not become a job. The error itself is not kept, because its traceback refers to the image."""

    custom_id: str
    code: str
    detail: str


@dataclass
class AddedImages:
    """The result of one request that added images."""

    #: (custom_id, job id, whether an earlier request created the job).
    accepted: list[tuple[str, str, bool]] = field(default_factory=list)
    #: The first `LISTED_MAX`. All rejected images are in the results of the submission.
    rejected: list[RejectedImage] = field(default_factory=list)
    #: Number of rejected images by error code.
    rejections: Counter[str] = field(default_factory=Counter)
    #: Images to resend later.
    left: list[str] = field(default_factory=list)
    #: System files in an archive, which are not counted: the first `LISTED_MAX`.
    skipped: list[str] = field(default_factory=list)
    skipped_count: int = 0
    #: The error that stopped the request early.
    stopped: PawqueueError | None = None

    def reject(self, image: RejectedImage) -> None:
        """Add a rejected image."""
        self.rejections[image.code] += 1
        if len(self.rejected) < LISTED_MAX:
            self.rejected.append(image)

    def skip(self, custom_id: str) -> None:
        """Add a system file."""
        self.skipped_count += 1
        if len(self.skipped) < LISTED_MAX:
            self.skipped.append(custom_id)

    def to_dict(self) -> dict[str, Any]:
        """The members of the response."""
        return {
            "accepted": [
                {"custom_id": custom_id, "job_id": job_id, "repeated": repeated}
                for custom_id, job_id, repeated in self.accepted
            ],
            "rejected": [asdict(image) for image in self.rejected],
            "more_rejected": self.rejections.total() - len(self.rejected),
            "left": self.left,
            "left_from": self.left[0] if self.left else None,
            "skipped": self.skipped,
            "more_skipped": self.skipped_count - len(self.skipped),
        }


@dataclass(frozen=True)
class Submissions:
    """Operations on submissions; a caller can see only its own."""

    ledger: Ledger
    acceptor: Acceptor
    waiters: Waiters
    purger: Purger
    own_ids: OwnIds
    models: ModelNames
    #: Maximum number of open submissions of one owner.
    max_open: int
    #: How long finished submissions and rejected images are kept, in seconds.
    ttl_s: int

    def open(
        self, caller: Caller, options: SubmissionOptions, submission_id: str = "", key: str = ""
    ) -> tuple[Submission, bool]:
        """Open a submission, or return the one that was already opened with the same id or idempotency key.

        Returns:
            The submission, and whether it is new.

        Raises:
            ConflictError: the id belongs to a different submission.
            IdempotencyMismatchError: the idempotency key was used with different options.
            UnavailableError: the submission with this id is still being purged, or Redis is full.
            UnknownModelError: there is no such model.
            QueueFullError: Redis is nearly full, and a large share of it is the caller's.
            TooManySubmissionsError: the caller has too many open submissions.
        """
        self.models.check(options.model)
        self.acceptor.check_admission(caller.owner)
        chosen_id = submission_id or (named_submission_id(caller.owner, key) if key else new_job_id())
        submission = Submission(
            chosen_id,
            options.queue,
            now_ms(),
            options.name,
            owner=caller.owner,
            deadline_s=options.deadline_s,
            model=options.model,
            top_k=options.top_k,
            webhook=options.webhook,
        )
        own_id = self.own_ids.replacement(caller.owner, chosen_id)
        result = self.ledger.open_submission(submission, self.ttl_s, self.max_open, own_id)
        if result in (SubmitStatus.STORED, SubmitStatus.REPEATED):
            return self.find(caller, chosen_id), result is SubmitStatus.STORED
        if result is SubmitStatus.PURGING:
            raise UnavailableError(
                "The submission with this id is still being purged. Resend the request in a moment.", retry_after_s=1
            )
        if result is SubmitStatus.TOO_MANY_OPEN:
            raise TooManySubmissionsError(
                f"You have {self.max_open:,} open submissions, which is the limit. Close those that are complete and "
                "purge those without images; these expire after an hour.",
                retry_after_s=_OPEN_RETRY_S,
            )
        if submission_id:
            raise ConflictError("This id belongs to a different submission of yours. Use another id.")
        raise IdempotencyMismatchError("This Idempotency-Key was used with a different body. Use a new key.")

    def add_images(
        self, submission: Submission, images: Iterable[ReceivedImage], stored: Callable[[], None] = lambda: None
    ) -> AddedImages:
        """Accept images in groups until an error stops the request; an invalid image does not affect the others.

        Calls `stored` whenever the images read so far need no more memory.
        """
        added = AddedImages()
        try:
            for group in _groups(_without_junk(images, added)):
                self._add_group(submission, group, added)
                group.clear()
                stored()
                if added.stopped:
                    break
        except (UploadError, BusyError) as error:
            added.stopped = error
        return added

    def find(self, caller: Caller, submission_id: str) -> Submission:
        """One of the caller's submissions.

        Raises:
            NotFoundError: it does not exist, or belongs to another caller.
        """
        submission = self.ledger.submission(submission_id, own_id=self.own_ids.replacement(caller.owner, submission_id))
        if submission is None or not caller.may_see(submission):
            raise _not_found()
        return submission

    def latest(self, caller: Caller, limit: int) -> list[Submission]:
        """The caller's latest submissions, newest first."""
        return self.ledger.submissions(caller.owner, limit)

    def wait(self, caller: Caller, submission_id: str, timeout_s: float) -> Submission:
        """Wait up to `timeout_s` for a submission to finish; returns it in its current state.

        Raises:
            NotFoundError: it does not exist, or belongs to another caller.
        """
        end_s = time.monotonic() + timeout_s
        submission = self.find(caller, submission_id)
        with self.waiters.expect_submission(submission.id) as finished:
            submission = self.find(caller, submission_id)
            while submission.finished_ms is None and (left_s := end_s - time.monotonic()) > 0:
                finished.wait(left_s)
                if self.waiters.ended:
                    break
                finished.clear()
                submission = self.find(caller, submission_id)
        return submission

    def close(self, caller: Caller, submission_id: str) -> Submission:
        """Stop accepting images for a submission; closing it again changes nothing.

        Raises:
            NotFoundError: it does not exist, or belongs to another caller.
        """
        submission = self.find(caller, submission_id)
        self.ledger.close_submission(submission.id, self.ttl_s)
        return self.find(caller, submission_id)

    def cancel(self, caller: Caller, submission_id: str) -> Submission:
        """Close a submission and cancel its unfinished jobs; a finished submission does not change.

        Raises:
            NotFoundError: it does not exist, or belongs to another caller.
        """
        submission = self.find(caller, submission_id)
        if submission.finished_ms is None:
            # Close it first, so that no job is added while others are being canceled.
            self.ledger.close_submission(submission.id, self.ttl_s, cancel=True)
            start = 0
            while job_ids := self.ledger.submission_job_ids(submission.id, start, _CANCEL_GROUP):
                self.ledger.cancel(job_ids, self.ttl_s)
                start += len(job_ids)
        return self.find(caller, submission_id)

    def purge(self, caller: Caller, submission_id: str) -> None:
        """Remove a submission with all of its jobs; also completes a purge that was interrupted.

        Raises:
            NotFoundError: it does not exist, or belongs to another caller that is not an admin.
        """
        own_id = self.own_ids.replacement(caller.owner, submission_id)
        submission = self.ledger.submission(submission_id, own_id=own_id, include_hidden=True)
        if submission is None or not caller.may_manage(submission):
            raise _not_found()
        self.purger.purge_submission(submission, by=caller.owner)

    def _add_group(self, submission: Submission, group: Sequence[ReceivedImage], added: AddedImages) -> None:
        uploads = [self._upload(submission, image) for image in group]
        receipts = self.acceptor.accept(uploads)
        invalid: list[tuple[Upload, RejectedImage]] = []
        for image, upload, receipt in zip(group, uploads, receipts, strict=True):
            error = receipt.error
            if error is None:
                added.accepted.append((image.custom_id, receipt.job_id, receipt.new_job is None))
            elif isinstance(error, BusyError | SubmissionClosedError):
                added.left.append(image.custom_id)
                added.stopped = added.stopped or error
            else:
                rejected = RejectedImage(image.custom_id, error.code, error.detail)
                added.reject(rejected)
                # A conflict is not recorded: its `custom_id` belongs to another image.
                if isinstance(error, UploadError) and image.custom_id:
                    invalid.append((upload, rejected))
        if invalid and not isinstance(added.stopped, UnavailableError):
            self.acceptor.check_admission(submission.owner)  # not checked yet if no image of the group is valid
            jobs = [_rejected_job(upload, image) for upload, image in invalid]
            self.ledger.reject(jobs, self.ttl_s, own_ids={upload.job_id: upload.own_id for upload, _ in invalid})

    def _upload(self, submission: Submission, image: ReceivedImage) -> Upload:
        yield_turn()
        content = image.data or image.address.encode()
        digest = b"" if image.error else hashlib.sha256(content).digest()[:_FINGERPRINT_BYTES]
        job_id = image_job_id(submission.id, image.custom_id)
        return Upload(
            image.data,
            submission.queue,
            file=image.custom_id,
            job_id=job_id,
            own_id=self.own_ids.replacement(submission.owner, job_id),
            fingerprint=urlsafe_b64encode(digest).decode().rstrip("="),
            deadline_s=submission.deadline_s,
            owner=submission.owner,
            submission=submission.id,
            model=submission.model,
            top_k=submission.top_k,
            address=image.address,
            error=image.error,
        )


def _without_junk(images: Iterable[ReceivedImage], added: AddedImages) -> Iterator[ReceivedImage]:
    """Yield the images, and add the names of system files to `added`."""
    for image in images:
        if image.is_junk:
            added.skip(image.custom_id)
        else:
            yield image


def _not_found() -> NotFoundError:
    return NotFoundError("No such submission: the id is wrong, or the submission has expired or was purged.")


def _groups(images: Iterable[ReceivedImage]) -> Iterator[list[ReceivedImage]]:
    """Yield images in groups; if reading fails, first yield the images read so far."""
    group: list[ReceivedImage] = []
    size = 0
    try:
        for image in images:
            group.append(image)
            size += len(image.data)
            if len(group) == GROUP_MAX_JOBS or size >= GROUP_MAX_BYTES:
                yield group
                group, size = [], 0
    except UploadError:
        if group:
            yield group
        raise
    if group:
        yield group


def _rejected_job(upload: Upload, image: RejectedImage) -> Job:
    return Job(
        id=upload.job_id,
        queue=upload.queue,
        created_ms=now_ms(),
        status=JobStatus.FAILED,
        file=image.custom_id,
        owner=upload.owner,
        submission=upload.submission,
        model=upload.model,
        result=JobResult(error=JobError(image.code, image.detail)),
    )
