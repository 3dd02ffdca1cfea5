"""The use cases of the dead-letter list: jobs that killed their workers, kept for a person to decide."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

from contract.errors import NotFoundError
from contract.job import Job, JobStatus, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Submit
from gateway.committer import GroupCommitter

_LISTED_MAX = 1000
#: What a job that is tried anew does not take over from the dead one.
_UNTRIED: dict[str, Any] = {
    "started_ms": None,
    "finished_ms": None,
    "deadline_ms": None,
    "attempts": 0,
    "fence": 0,
    "result": None,
    # Its own may be closed.
    "submission": "",
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
        return self._find(job_id)[0]

    def retry(self, job_id: str) -> Job:
        """Submit the image of a dead job as a new job, with all its attempts before it; returns the new one.

        The new job stands before the dead one leaves the list, and its id follows from the dead one's: whatever comes
        in between, trying again makes no second one.

        Raises:
            NotFoundError: it is not on the list.
            BusyError: the new job was not accepted for now; the dead one is still on the list.
        """
        dead, image = self._find(job_id)
        new_id = str(uuid.uuid5(uuid.UUID(job_id), "retry"))
        job = replace(dead, id=new_id, created_ms=now_ms(), status=JobStatus.QUEUED, image=image, **_UNTRIED)
        receipt = self.committer.commit(Submit(job, fingerprint=f"retry of {job_id}"))
        self.ledger.unbury(job_id)
        return job if receipt.is_new else self._job(new_id)

    def drop(self, job_id: str) -> Job:
        """Take a job off the list and delete its image; returns it.

        Raises:
            NotFoundError: it is not on the list.
        """
        dead, _ = self._find(job_id)
        image = self.ledger.unbury(job_id)
        if image is None:
            raise _missing()
        self.ledger.discard(image)
        return dead

    def _find(self, job_id: str) -> tuple[Job, str]:
        """A job on the list, and the reference of its image."""
        image = self.ledger.dead_image(job_id)
        if image is None:
            raise _missing()
        return self._job(job_id), image

    def _job(self, job_id: str) -> Job:
        job = self.ledger.get([job_id])[0]
        if job is None:
            raise _missing()
        return job


def _missing() -> NotFoundError:
    return NotFoundError("There is no such job on the dead-letter list. `GET /v1/dead` shows which are.")
