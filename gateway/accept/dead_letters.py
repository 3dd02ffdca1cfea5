"""Dead letters: jobs that failed because their image repeatedly killed workers. An operator retries or drops them."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

from contract.errors import NotFoundError
from contract.job import Job, JobStatus, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Submit
from contract.purge import Purger
from gateway.accept.acceptor import Acceptor
from gateway.accept.own_ids import OwnIds

LISTED_MAX = 1000
#: Fields that a retry resets. The new job has no submission, because the old one may be closed.
_RESET: dict[str, Any] = {
    "status": JobStatus.QUEUED,
    "started_ms": None,
    "finished_ms": None,
    "deadline_ms": None,
    "attempts": 0,
    "fence": 0,
    "result": None,
    "submission": "",
}


@dataclass(frozen=True)
class DeadLetters:
    """Reads, retries and drops dead jobs. The record of a dead job never changes."""

    ledger: Ledger
    acceptor: Acceptor
    purger: Purger
    own_ids: OwnIds

    def latest(self) -> list[Job]:
        """The latest dead jobs, at most `LISTED_MAX`."""
        return [job for job in self.ledger.get(self.ledger.dead(LISTED_MAX)) if job]

    def find(self, job_id: str) -> Job:
        """One dead job.

        Raises:
            NotFoundError: it is not in the dead-letter list.
        """
        return self._find(job_id)[0]

    def retry(self, job_id: str) -> Job:
        """Submit the image of a dead job as a new job; returns the new job.

        The new job is recorded before the dead one is removed from the list, and its id is derived from the dead job's
        id. An interrupted retry can therefore be repeated without creating a second job.

        Raises:
            NotFoundError: it is not in the dead-letter list.
            BusyError: the new job was not accepted; the dead job is still in the list.
        """
        dead, image = self._find(job_id)
        new_id = str(uuid.uuid5(uuid.UUID(job_id), "retry"))
        job = replace(dead, id=new_id, created_ms=now_ms(), image=image, **_RESET)
        own_id = self.own_ids.replacement(dead.owner, new_id)
        receipt = self.acceptor.resubmit(Submit(job, fingerprint=f"retry of {job_id}", own_id=own_id))
        new_id, job = receipt.job_id, replace(job, id=receipt.job_id)
        removed = self.ledger.remove_dead(job_id, retried_as=new_id)
        if removed is None and not self.ledger.exist([job_id])[0]:
            # The dead job was purged meanwhile, and the purge did not find the new job.
            self.purger.purge_job(job, by="")
            raise _not_found()
        return job if receipt.is_new else self._job(new_id)

    def drop(self, job_id: str) -> Job:
        """Remove a job from the list and delete its image; returns the job.

        Raises:
            NotFoundError: it is not in the dead-letter list.
        """
        dead, _ = self._find(job_id)
        image = self.ledger.remove_dead(job_id)
        if image is None:
            raise _not_found()
        self.ledger.discard([image])
        return dead

    def _find(self, job_id: str) -> tuple[Job, str]:
        """A dead job, and the reference of its image."""
        image = self.ledger.dead_image(job_id)
        if image is None:
            raise _not_found()
        return self._job(job_id), image

    def _job(self, job_id: str) -> Job:
        job = self.ledger.get([job_id])[0]
        if job is None:
            raise _not_found()
        return job


def _not_found() -> NotFoundError:
    return NotFoundError("This job is not in the dead-letter list. `GET /v1/dead` lists dead jobs.")
