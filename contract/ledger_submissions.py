"""What may be done to submission records: the part of the ledger that is about many jobs sent together."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from contract.job import Job
from contract.ledger_types import Submitted
from contract.submission import Submission


class SubmissionLedger(ABC):
    """Submissions and their jobs; the counts of a submission change in the same step as the states of its jobs.

    A job joins the submission that its record names when it is stored. A submission is kept while any of its jobs is
    pending, and for a time to live after that.
    """

    @abstractmethod
    def open_submission(self, submission: Submission, ttl_s: int) -> Submitted:
        """Store a new submission.

        Returns:
            `STORED`; `REPEATED` where the same is there already; `TAKEN` where its id stands for another.
        """

    @abstractmethod
    def close_submission(self, submission_id: str, ttl_s: int, now_ms: int = 0, *, withdrawn: bool = False) -> None:
        """Let it take no more jobs, and call it canceled if it is `withdrawn` before it has finished."""

    @abstractmethod
    def submission(self, submission_id: str) -> Submission | None:
        """Read a submission; None for an unknown id."""

    @abstractmethod
    def submissions(self, owner: str, count: int) -> list[Submission]:
        """The latest submissions of an owner, at most `count`, the newest first."""

    @abstractmethod
    def submission_job_ids(self, submission_id: str, start: int, count: int) -> list[str]:
        """Ids of up to `count` of its jobs behind the first `start`, in order of acceptance; fewer at the end."""

    @abstractmethod
    def reject(self, jobs: Sequence[Job], ttl_s: int, now_ms: int = 0) -> list[bool]:
        """Record images that became no job, each with the error that is its result, in their submissions.

        Returns:
            False for one that is recorded already, under whatever state, or whose submission takes no more.
        """
