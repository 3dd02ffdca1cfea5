"""Reads all results of a submission in one go, however often the connection breaks."""

from collections.abc import Iterator, Sequence

from pawqueue.deadline import Deadline, pause_s
from pawqueue.errors import ClientError
from pawqueue.results import Row, row_of_line
from pawqueue.submissions import Submissions


def read_results(
    submissions: Submissions, submission_id: str, deadline: Deadline, statuses: Sequence[str] = ()
) -> Iterator[Row]:
    """Yield a row for each image that has ended, or is in one of `statuses`, in the order of acceptance.

    The deadline is renewed by each row. Raises what `Wire.send` raises.
    """
    after, tries = 0, 0
    while True:
        try:
            for line in submissions.results(submission_id, deadline, after, statuses):
                after, tries = line.n, 0
                deadline.renew()
                yield row_of_line(line.values)
        except ClientError as error:
            tries += 1
            if not error.retryable or not deadline.pause(pause_s(tries, error.retry_after_s)):
                raise
        else:
            return
