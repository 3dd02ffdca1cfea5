"""Finds out whether an id is a job's or a submission's."""

from collections.abc import Callable
from typing import TypeVar

from contract.job import Job
from pawqueue.deadline import Deadline
from pawqueue.errors import RefusedError
from pawqueue.jobs import Jobs
from pawqueue.submission import Submission
from pawqueue.submissions import Submissions
from pawqueue.wire import Wire

_NOT_FOUND = 404
_First = TypeVar("_First")
_Second = TypeVar("_Second")


class Lookup:
    """Asks for a job and, where there is none of that id, for a submission. Methods raise what `Wire.send` raises."""

    def __init__(self, wire: Wire) -> None:
        self.jobs = Jobs(wire)
        self.submissions = Submissions(wire)

    def get(self, any_id: str, deadline: Deadline) -> Job | Submission:
        """The job or submission as it is now."""
        return _either(
            any_id,
            lambda: self.jobs.get(any_id, deadline),
            lambda: self.submissions.get(any_id, deadline),
        )

    def cancel(self, any_id: str, deadline: Deadline) -> Job | Submission:
        """Withdraw what has not ended of it."""
        return _either(
            any_id,
            lambda: self.jobs.cancel(any_id, deadline),
            lambda: self.submissions.cancel(any_id, deadline),
        )


def _either(any_id: str, job: Callable[[], _First], submission: Callable[[], _Second]) -> _First | _Second:
    try:
        return job()
    except RefusedError as error:
        if error.status != _NOT_FOUND:
            raise
    try:
        return submission()
    except RefusedError as error:
        if error.status != _NOT_FOUND:
            raise
        detail = f"There is no job and no submission {any_id} here; ended ones are kept for a while only."
        raise RefusedError(_NOT_FOUND, {"code": error.code, "title": error.title, "detail": detail}) from None
