"""The use case: one picture in, one job out."""

from dataclasses import dataclass

from contract.image_store import ImageStore
from contract.job import Job, new_job_id, now_ms
from gateway.committer import GroupCommitter
from gateway.uploads import UploadLimits, check_upload
from gateway.waiters import Waiters

_FILE_NAME_MAX = 255


@dataclass(frozen=True)
class Submitter:
    """Checks a picture, stores it, records it, queues it.

    In that order, so that a queued job always has its picture.
    """

    images: ImageStore
    committer: GroupCommitter
    waiters: Waiters
    limits: UploadLimits

    def submit(self, data: bytes, file: str, queue: str, wait_s: float = 0) -> Job:
        """Accept a picture as a job and wait up to `wait_s` for its outcome.

        Returns:
            The job: final if it ended in time, else as it stands.

        Raises:
            UploadError: the picture was refused.
            BusyError: it was not accepted for now; nothing is kept of it.
        """
        check_upload(data, self.limits)
        image = self.images.put(data)
        job = Job(new_job_id(), queue, now_ms(), file=_clean(file), size_bytes=len(data), image=image)
        if wait_s <= 0:
            self._commit(job)
            return job
        with self.waiters.expect(job.id) as ended:
            self._commit(job)
            return self.waiters.result(ended, job.id, wait_s) or job

    def _commit(self, job: Job) -> None:
        try:
            self.committer.commit(job)
        except Exception:
            self.images.delete([job.image])
            raise


def _clean(name: str) -> str:
    """A file name as it may stand in records and logs."""
    return "".join(character for character in name if character.isprintable())[:_FILE_NAME_MAX]
