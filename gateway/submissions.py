"""The use cases of submissions: open, find, wait, close, withdraw, list."""

import time
from dataclasses import dataclass

from contract.access import Caller
from contract.errors import ConflictError, IdempotencyMismatchError, NotFoundError
from contract.job import new_job_id, now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Submitted
from contract.submission import Submission, named_submission_id
from gateway.waiters import Waiters

#: Jobs withdrawn in one step: a larger one would keep Redis from others for too long.
_CANCELED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What a sender wants of a submission."""

    name: str
    queue: str
    deadline_s: float | None = None


@dataclass(frozen=True)
class Submissions:
    """What may be done to submissions; a caller sees its own only."""

    ledger: Ledger
    waiters: Waiters
    ttl_s: int

    def open(self, caller: Caller, wish: Wish, submission_id: str = "", key: str = "") -> tuple[Submission, bool]:
        """Open a submission, or recognize one that was opened before under the same id or idempotency key.

        Returns:
            The submission, and whether it is new.

        Raises:
            ConflictError: the id stands for another one.
            IdempotencyMismatchError: the idempotency key was sent before with another wish.
        """
        chosen = submission_id or (named_submission_id(caller.owner, key) if key else new_job_id())
        submission = Submission(chosen, wish.queue, now_ms(), wish.name, caller.owner, wish.deadline_s)
        result = self.ledger.open_submission(submission, self.ttl_s)
        if result is Submitted.STORED:
            return submission, True
        if result is Submitted.REPEATED:
            return self.find(caller, chosen), False
        if submission_id:
            raise ConflictError("A submission with this id exists already, and is another one. Use another id.")
        raise IdempotencyMismatchError("This Idempotency-Key was sent before with another body. Use a new key.")

    def find(self, caller: Caller, submission_id: str) -> Submission:
        """One of the caller's submissions.

        Raises:
            NotFoundError: it is unknown, or another's.
        """
        submission = self.ledger.submission(submission_id)
        if submission is None or not caller.may_see(submission):
            raise NotFoundError("There is no such submission: the id is wrong, or its time to live has ended.")
        return submission

    def wait(self, caller: Caller, submission_id: str, timeout_s: float) -> Submission:
        """A submission as soon as it has finished, as it stands after `timeout_s`.

        Raises:
            NotFoundError: it is unknown, or another's.
        """
        end_s = time.monotonic() + timeout_s
        with self.waiters.bell(submission_id) as bell:
            submission = self.find(caller, submission_id)
            while submission.finished_ms is None and (left_s := end_s - time.monotonic()) > 0:
                bell.wait(left_s)
                bell.clear()
                submission = self.find(caller, submission_id)
        return submission

    def close(self, caller: Caller, submission_id: str) -> Submission:
        """Let a submission take no more images; closing twice is fine.

        Raises:
            NotFoundError: it is unknown, or another's.
        """
        self.find(caller, submission_id)
        self.ledger.close_submission(submission_id, self.ttl_s)
        return self.find(caller, submission_id)

    def cancel(self, caller: Caller, submission_id: str) -> Submission:
        """Close a submission and end what has not ended, step by step; one that has finished stays as it is.

        Raises:
            NotFoundError: it is unknown, or another's.
        """
        if self.find(caller, submission_id).finished_ms is None:
            # Once it is closed no job joins it any more: the steps come to an end.
            self.ledger.close_submission(submission_id, self.ttl_s, withdrawn=True)
            self._cancel_jobs(submission_id)
        return self.find(caller, submission_id)

    def _cancel_jobs(self, submission_id: str) -> None:
        start = 0
        while job_ids := self.ledger.submission_job_ids(submission_id, start, _CANCELED_AT_ONCE):
            self.ledger.cancel(job_ids, self.ttl_s)
            start += len(job_ids)

    def latest(self, caller: Caller, limit: int) -> list[Submission]:
        """The caller's latest submissions, the newest first."""
        return self.ledger.submissions(caller.owner, limit)
