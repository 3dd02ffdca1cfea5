"""The use cases of the dead-letter list: jobs that killed their workers, kept for a person to decide."""

from dataclasses import dataclass, replace
from typing import Any

from contract.errors import NotFoundError
from contract.job import Job, JobStatus, new_job_id, now_ms
from contract.ledger import Ledger
from contract.ledger_types import Submit
from gateway.committer import GroupCommitter

_LISTED_MAX = 1000
#: What a job that is tried anew does not take over from the dead one.
_UNTRIED: dict[str, Any] = {
    "started_ms": None,
    "finished_ms": None,
    "deadline_ms": None,
    "attempts": 0,
    "fence": 0,
    "outcome": None,
}


@dataclass(frozen=True)
class DeadLetters:
    """Look at dead jobs, try one again, or drop it; what has ended stays as it is."""

    ledger: Ledger
    committer: GroupCommitter

    def listed(self) -> list[Job]:
        """The latest dead jobs, at most 1000."""
        return [job for job in self.ledger.get(self.ledger.dead(_LISTED_MAX)) if job]

    def show(self, job_id: str) -> Job:
        """One dead job.

        Raises:
            NotFoundError: it is not on the list.
        """
        if job_id not in self.ledger.dead(_LISTED_MAX):
            raise _missing()
        return self._job(job_id)

    def retry(self, job_id: str) -> Job:
        """Submit the picture of a dead job as a new job, with all its attempts before it; returns the new one.

        Raises:
            NotFoundError: it is not on the list.
            BusyError: the new job was not accepted for now; the dead one is back on the list.
        """
        dead, image = self._take(job_id)
        job = replace(dead, id=new_job_id(), created_ms=now_ms(), status=JobStatus.QUEUED, image=image, **_UNTRIED)
        try:
            self.committer.commit(Submit(job))
        except Exception:
            self.ledger.bury(job_id, image)
            raise
        return job

    def drop(self, job_id: str) -> Job:
        """Take a job off the list and delete its picture; returns it.

        Raises:
            NotFoundError: it is not on the list.
        """
        dead, image = self._take(job_id)
        self.ledger.discard(image)
        return dead

    def _take(self, job_id: str) -> tuple[Job, str]:
        job = self._job(job_id)
        image = self.ledger.unbury(job_id) if job.status is JobStatus.FAILED else None
        if image is None:
            raise _missing()
        return job, image

    def _job(self, job_id: str) -> Job:
        job = self.ledger.get([job_id])[0]
        if job is None:
            raise _missing()
        return job


def _missing() -> NotFoundError:
    return NotFoundError("There is no such job on the dead-letter list. `GET /v1/dead` shows which are.")
