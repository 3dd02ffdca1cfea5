"""The exceptions of the client.

ClientError
├── RefusedError      the gateway rejected the request; retry only if `retryable`
├── JobFailedError    the image was accepted, but its job has no prediction
├── UnreachableError  no response, or a response that is not from a Pawqueue gateway
└── TimedOutError     the deadline passed before the call completed
"""

from typing import TYPE_CHECKING

from contract.job import Job

if TYPE_CHECKING:  # `submissions` imports this module
    from pawqueue.client.submissions import Submission

#: Too many requests, and the three statuses with which a gateway or proxy reports a temporary failure.
_BUSY_STATUSES = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """The base of all expected errors; the message states the problem and what to do."""

    def __init__(self, text: str, *, retryable: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        #: Whether the same request may succeed later.
        self.retryable = retryable
        #: The `Retry-After` of the response, in seconds.
        self.retry_after_s = retry_after_s


class RefusedError(ClientError):
    """The gateway rejected the request; the attributes are those of its problem details (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, str], retry_after_s: float | None = None) -> None:
        self.status = status
        #: Stable error code, as in `contract/errors.py`; `http_NNN` if a proxy rejected the request.
        self.code = problem.get("code") or f"http_{status}"
        self.title = problem.get("title") or "Refused"
        self.detail = problem.get("detail") or self.title
        text = f"{self.detail} ({self.code}, HTTP {status})"
        super().__init__(text, retryable=status in _BUSY_STATUSES, retry_after_s=retry_after_s)

    def with_detail(self, detail: str) -> "RefusedError":
        """The same error with another explanation."""
        return RefusedError(self.status, {"code": self.code, "title": self.title, "detail": detail}, self.retry_after_s)


class JobFailedError(ClientError):
    """The image was accepted, but its job finished without a prediction."""

    def __init__(self, job: Job) -> None:
        self.job = job
        error = job.result.error if job.result else None
        #: Stable error code: that of the result, or the job's status if it has no result.
        self.code = error.code if error else str(job.status)
        super().__init__(f"Job {job.id} {job.status}: {error.detail if error else 'it has no prediction.'}")


class UnreachableError(ClientError):
    """Nothing responds at the address, or the server there is not a Pawqueue gateway."""


class TimedOutError(ClientError):
    """The deadline passed; `job` or `submission` is the last known state, if there is one."""

    def __init__(
        self, text: str, *, job: Job | None = None, submission: "Submission | None" = None, retryable: bool = False
    ) -> None:
        super().__init__(text, retryable=retryable)
        self.job = job
        self.submission = submission
