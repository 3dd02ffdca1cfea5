"""What a call of the client may raise: each kind asks something else of the caller.

ClientError
├── RefusedError      the gateway understood and said no: send something else, or later when `retryable`
├── JobFailedError    the image was accepted and its result is no prediction
├── UnreachableError  no answer, or none of a Pawqueue gateway
└── TimedOutError     the deadline passed first
"""

from contract.job import Job
from pawqueue.submission import Submission


class ClientError(Exception):
    """The base of all expected errors; its text says what happened and what to do."""

    def __init__(self, text: str, *, retryable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        #: Whether the same request may succeed later.
        self.retryable = retryable
        #: The pause that the gateway asked for, in seconds.
        self.retry_after_s = retry_after_s


class RefusedError(ClientError):
    """The gateway refused the request; the fields are those of its problem details (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, str], retry_after_s: float | None = None) -> None:
        self.status = status
        #: Stable name for programs, as in `contract/errors.py`; `http_NNN` from a server in between.
        self.code = problem.get("code") or f"http_{status}"
        self.title = problem.get("title") or "Refused"
        self.detail = problem.get("detail") or self.title
        text = f"{self.detail} ({self.code}, HTTP {status})"
        super().__init__(text, retryable=status in _BUSY_STATUSES, retry_after_s=retry_after_s)


class JobFailedError(ClientError):
    """The image was accepted, and its job ended without a prediction."""

    def __init__(self, job: Job) -> None:
        self.job = job
        error = job.result.error if job.result else None
        #: Stable name for programs: the result's error code, else the job's status.
        self.code = error.code if error else str(job.status)
        super().__init__(f"Job {job.id} {job.status}: {error.detail if error else 'it has no prediction.'}")


class UnreachableError(ClientError):
    """Nothing answered at the address, or something that is not a Pawqueue gateway."""


class TimedOutError(ClientError):
    """The deadline passed; `job` or `submission` is the last that was seen of it, if it was accepted."""

    def __init__(
        self, text: str, *, job: Job | None = None, submission: Submission | None = None, retryable: bool = False
    ) -> None:
        super().__init__(text, retryable=retryable)
        self.job = job
        self.submission = submission


#: Too many requests, and the three by which a gateway or a proxy says "not now".
_BUSY_STATUSES = frozenset({429, 502, 503, 504})
