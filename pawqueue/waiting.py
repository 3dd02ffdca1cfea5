"""Waits for the end of a job or of a submission."""

from collections.abc import Iterator

from contract.job import Job
from pawqueue.deadline import Deadline
from pawqueue.errors import TimedOutError
from pawqueue.jobs import LONG_POLL_S
from pawqueue.lookup import Lookup
from pawqueue.submission import Submission
from pawqueue.submissions import Submissions

_POLL_S = 0.5


def ended(lookup: Lookup, found: Job | Submission, deadline: Deadline) -> Job | Submission:
    """Return it once it has ended.

    Raises:
        TimedOutError: the deadline passed first; the error holds what was last seen.
    """
    looks = (
        lookup.jobs.follow(found, deadline)
        if isinstance(found, Job)
        else follow_submission(lookup.submissions, found, deadline)
    )
    for seen in looks:
        found = seen
    return found


def follow_submission(submissions: Submissions, submission: Submission, deadline: Deadline) -> Iterator[Submission]:
    """Yield the submission each time it was looked at, until it has ended.

    Raises:
        TimedOutError: the deadline passed first.
    """
    while not submission.status.is_final:
        late = TimedOutError(_still(submission, deadline), submission=submission)
        if not deadline.remaining_s():
            raise late
        before_s = deadline.remaining_s()
        try:
            submission = submissions.get(submission.id, deadline, LONG_POLL_S)
        except TimedOutError as error:
            raise late from error
        yield submission
        if not submission.status.is_final and before_s - deadline.remaining_s() < _POLL_S:
            deadline.pause(min(_POLL_S, deadline.remaining_s() * 0.9))


def _still(submission: Submission, deadline: Deadline) -> str:
    counts = submission.counts
    return (
        f"Submission {submission.id} is still {submission.status} after {deadline.patience_s:g} s "
        f"({submission.ended:,} of {counts.total:,} ended); it goes on, ask for it again later by its id."
    )
