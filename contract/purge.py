"""Purging: jobs and submissions are removed with everything that the service stores about them.

One script removes a job from Redis, so that no reader sees half of it. Images are deleted after that: their references
stay on the list of discarded images until the image store has deleted them, and the reconciler retries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contract.errors import UnavailableError
from contract.images.store import ImageStore
from contract.job import Job
from contract.ledger.ledger import Ledger
from contract.ledger.types import Purged
from contract.log import get_logger
from contract.submission import Submission

_log = get_logger(__name__)

#: Jobs removed in one step; more would block Redis for too long.
_STEP_JOBS = 200


@dataclass(frozen=True)
class Purger:
    """Purges jobs and submissions. Methods raise `UnavailableError` if Redis is not responding."""

    ledger: Ledger
    images: ImageStore
    #: How long finished submissions are kept, in seconds.
    ttl_s: int

    def purge_job(self, job: Job, by: str) -> None:
        """Remove a job, for the owner of the API key with the id `by`."""
        self._delete_images(self.ledger.purge([job.id], self.ttl_s))
        _log.info("Purged a job", action="purged", job_id=job.id, owner=job.owner, by=by)

    def purge_submission(self, submission: Submission, by: str) -> None:
        """Remove a submission and all of its jobs; readers no longer find it from the first step on.

        If this fails in between, `resume` completes it.
        """
        jobs, has_more = 0, True
        while has_more:
            step = self.ledger.purge_submission(submission.id, _STEP_JOBS, self.ttl_s)
            self._delete_images(step)
            jobs, has_more = jobs + step.jobs, step.has_more
        fields = {"submission_id": submission.id, "owner": submission.owner, "jobs": jobs, "by": by}
        _log.info("Purged a submission", action="purged", **fields)

    def resume(self, grace_s: float, by: str) -> None:
        """Complete the purges that made no progress for `grace_s`: their process has stopped, or lost Redis."""
        for submission_id in self.ledger.stalled_purges(int(grace_s * 1000)):
            submission = self.ledger.submission(submission_id, include_hidden=True)
            if submission:
                self.purge_submission(submission, by)
            else:
                self.ledger.purge_submission(submission_id, 0, self.ttl_s)  # it has expired: end its purge

    def delete_discarded(self, count: int) -> None:
        """Delete up to `count` of the images that are marked for deletion.

        Raises:
            UnavailableError: Redis or the image store is unavailable; the images stay marked.
        """
        images = self.ledger.discarded(count)
        try:
            self._delete(images)
        except UnavailableError:
            # Start with other images next time: one image that cannot be deleted must not block the rest.
            self.ledger.discard(images)
            self.ledger.remove_discarded(images)
            raise

    def _delete_images(self, purged: Purged) -> None:
        try:
            self._delete(purged.images)
        except UnavailableError as error:
            _log.warning(
                "Images of purged jobs were not deleted yet; the reconciler will retry",
                count=len(purged.images),
                reason=error.detail,
            )

    def _delete(self, images: Sequence[str]) -> None:
        if images:
            self.images.delete(images)
            self.ledger.remove_discarded(images)
