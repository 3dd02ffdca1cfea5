"""The client: one object for one gateway."""

from types import TracebackType
from typing import Self

import httpx

from contract.job import Job, JobStatus
from pawqueue.deadline import Deadline
from pawqueue.errors import JobFailedError
from pawqueue.jobs import LONG_POLL_S, Jobs, Picture, body_of
from pawqueue.wire import Wire

DEFAULT_URL = "http://127.0.0.1:8000"
#: The queue for whoever waits for an answer, and the one for folders.
INTERACTIVE, BULK = "interactive", "bulk"


class Pawqueue:
    """Submits pictures to a gateway and reads their jobs; safe to share between threads.

    Every call has a deadline of `timeout_s` seconds, the client's unless the call names its own. Within it, lost
    connections and answers that say "busy" (429, 502, 503, 504) are tried again, not before the `Retry-After` that came
    with them. A picture whose answer was lost is sent again as the same job.

    Every call raises `RefusedError`, `UnreachableError` or `TimedOutError`, see `pawqueue/errors.py`; a picture that
    cannot be read raises `OSError`.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self._wire = Wire(url, api_key, transport)
        self._jobs = Jobs(self._wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._wire.close()

    def submit(
        self, picture: Picture, *, queue: str = INTERACTIVE, name: str | None = None, timeout_s: float | None = None
    ) -> Job:
        """Send a picture and return its job, most likely `queued`.

        `picture` is a path, bytes, or a file opened for reading bytes; `name` is kept with the job (default: the file's
        name); `queue` is `interactive` or `bulk`.
        """
        body, file = body_of(picture)
        return self._jobs.submit(body, file if name is None else name, queue, self._deadline(timeout_s))

    def get(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Return a job as it is now; `RefusedError` with code `not_found` when there is no such job."""
        return self._jobs.get(job_id, self._deadline(timeout_s))

    def wait(self, job: Job | str, *, timeout_s: float | None = None) -> Job:
        """Return a job, given as such or by its id, once it has ended, in whatever way.

        Raises:
            TimedOutError: it has not ended after `timeout_s` seconds; the error's `job` is what was last seen of it.
        """
        deadline = self._deadline(timeout_s)
        return self._end_of(self._jobs.get(job, deadline, LONG_POLL_S) if isinstance(job, str) else job, deadline)

    def predict(self, picture: Picture, *, name: str | None = None, timeout_s: float | None = None) -> Job:
        """Send a picture and return its job with the prediction.

        Raises:
            JobFailedError: the job ended without a prediction.
        """
        deadline = self._deadline(timeout_s)
        body, file = body_of(picture)
        job = self._jobs.submit(body, file if name is None else name, INTERACTIVE, deadline, LONG_POLL_S)
        job = self._end_of(job, deadline)
        if job.status is not JobStatus.SUCCEEDED:
            raise JobFailedError(job)
        return job

    def _end_of(self, job: Job, deadline: Deadline) -> Job:
        for seen in self._jobs.follow(job, deadline):
            job = seen
        return job

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)
