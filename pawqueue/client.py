"""The client: one object for one gateway."""

import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, overload

import httpx

from contract.job import Job, JobStatus
from pawqueue.deadline import Deadline
from pawqueue.errors import JobFailedError
from pawqueue.files import FoundFile, find_files
from pawqueue.folder import Plan
from pawqueue.jobs import LONG_POLL_S, Image, Jobs, body_of
from pawqueue.lookup import Lookup
from pawqueue.reading import read_results
from pawqueue.results import Row
from pawqueue.run_over import run_over
from pawqueue.submission import Submission
from pawqueue.waiting import ended
from pawqueue.wire import Wire

DEFAULT_URL = "http://127.0.0.1:8000"
#: The queue for whoever waits for an answer, and the one for folders.
INTERACTIVE, BULK = "interactive", "bulk"


class Pawqueue:
    """Submits images to a gateway and reads their jobs; safe to share between threads.

    Every call has a deadline of `timeout_s` seconds, the client's unless the call names its own. Within it, lost
    connections and answers that say "busy" (429, 502, 503, 504) are tried again, not before the `Retry-After` that came
    with them. An image whose answer was lost is sent again as the same job.

    Every call raises `RefusedError` (the gateway said no), `UnreachableError` or `TimedOutError`, see
    `pawqueue/errors.py`; an image that cannot be read raises `OSError`. That an image was accepted and has no
    prediction is a `JobFailedError` of `predict`, and a row's or a job's status everywhere else.
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
        self._lookup = Lookup(self._wire)
        self._jobs: Jobs = self._lookup.jobs

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
        self, image: Image, *, queue: str = INTERACTIVE, name: str | None = None, timeout_s: float | None = None
    ) -> Job:
        """Send an image and return its job, most likely `queued`.

        `image` is a path, bytes, or a file opened for reading bytes; `name` is kept with the job (default: the file's
        name); `queue` is `interactive` or `bulk`.
        """
        body, file = body_of(image)
        return self._jobs.submit(body, file if name is None else name, queue, self._deadline(timeout_s))

    def get(self, job_id: str, *, timeout_s: float | None = None) -> Job:
        """Return a job as it is now; `RefusedError` with code `not_found` when there is no such job."""
        return self._jobs.get(job_id, self._deadline(timeout_s))

    @overload
    def wait(self, what: Job | str, *, timeout_s: float | None = None) -> Job: ...

    @overload
    def wait(self, what: Submission, *, timeout_s: float | None = None) -> Submission: ...

    def wait(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> Job | Submission:
        """Return a job, given as such or by its id, or a submission, once it has ended, in whatever way.

        Raises:
            TimedOutError: it has not ended after `timeout_s` seconds; the error's `job` or `submission` is what was
                last seen of it.
        """
        deadline = self._deadline(timeout_s)
        found = self._jobs.get(what, deadline, LONG_POLL_S) if isinstance(what, str) else what
        return ended(self._lookup, found, deadline)

    def predict(self, image: Image, *, name: str | None = None, timeout_s: float | None = None) -> Job:
        """Send an image and return its job with the prediction.

        Raises:
            JobFailedError: the job ended without a prediction.
        """
        deadline = self._deadline(timeout_s)
        body, file = body_of(image)
        job = self._jobs.submit(body, file if name is None else name, INTERACTIVE, deadline, LONG_POLL_S)
        for seen in self._jobs.follow(job, deadline):
            job = seen
        if job.status is not JobStatus.SUCCEEDED:
            raise JobFailedError(job)
        return job

    def submit_folder(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        queue: str = BULK,
        memory: str | os.PathLike[str] | None = None,
        give_up_after_s: float = 120.0,
        timeout_s: float | None = None,
    ) -> Generator[Row]:
        """Classify the images of a folder, with all below it, as one submission; yield a row for each as it ends.

        Memory does not grow with their number. Whoever leaves the rows before their end may `close()` them, which ends
        the sending; the service goes on with what it has. `memory` names a file that remembers the run: where it is
        there already, the run that it remembers is gone on with, and only what is missing is sent. `name` is kept
        with the submission (default: the folder's).

        Raises:
            ClientError: for `give_up_after_s` seconds nothing went forward, or the gateway refuses this caller.
            TimedOutError: the whole took longer than `timeout_s` seconds (default: no limit).
        """
        root = Path(folder)
        return self.submit_files(
            find_files([root]),
            name=root.name if name is None else name,
            queue=queue,
            memory=memory,
            give_up_after_s=give_up_after_s,
            timeout_s=timeout_s,
        )

    def submit_files(
        self,
        files: Iterable[str | os.PathLike[str] | FoundFile],
        *,
        name: str = "",
        queue: str = BULK,
        memory: str | os.PathLike[str] | None = None,
        give_up_after_s: float = 120.0,
        timeout_s: float | None = None,
    ) -> Generator[Row]:
        """Classify files as one submission; the same as `submit_folder` otherwise. A file named twice is sent once."""
        found = (file if isinstance(file, FoundFile) else FoundFile.of(Path(file)) for file in files)
        plan = Plan(name, queue, give_up_after_s)
        return run_over(self._lookup.submissions, plan, found, Path(memory) if memory else None, timeout_s)

    def submission(self, submission_id: str, *, timeout_s: float | None = None) -> Submission:
        """Return a submission as it is now; `RefusedError` with code `not_found` when there is no such submission."""
        return self._lookup.submissions.get(submission_id, self._deadline(timeout_s))

    def submissions(self, limit: int = 20, *, timeout_s: float | None = None) -> list[Submission]:
        """Return the caller's latest submissions, the newest first."""
        return self._lookup.submissions.latest(limit, self._deadline(timeout_s))

    def results(
        self, submission: Submission | str, *, statuses: Iterable[str] = (), timeout_s: float | None = None
    ) -> Iterator[Row]:
        """Yield a row for each image of a submission that has ended, or is in one of `statuses`, as accepted.

        Also while it runs; read as a stream. `timeout_s` is for each row.
        """
        submission_id = submission if isinstance(submission, str) else submission.id
        return read_results(self._lookup.submissions, submission_id, self._deadline(timeout_s), tuple(statuses))

    def cancel(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> Job | Submission:
        """Withdraw what has not ended of a job or submission, given as such or by its id; returns what became of it."""
        return self._lookup.cancel(what if isinstance(what, str) else what.id, self._deadline(timeout_s))

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)
