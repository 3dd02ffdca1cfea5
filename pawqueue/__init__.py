"""The Python client and the `pawqueue` command: `Pawqueue("http://127.0.0.1:8000").predict("cat.jpg")`.

`client/` has the `Pawqueue` class and its HTTP calls, `bulk/` classifies folders, `cli/` is the command. Start with
`client/client.py`.
"""

from contract.job import Job, JobError, JobResult, JobStatus, ModelRef, Prediction, Timings
from contract.result_row import ResultRow as Row
from contract.submission import Counts, SubmissionStatus
from pawqueue.client import BULK, DEFAULT_URL, INTERACTIVE, AsyncPawqueue, Pawqueue
from pawqueue.client.errors import ClientError, JobFailedError, RefusedError, TimedOutError, UnreachableError
from pawqueue.client.models import ServedModel
from pawqueue.client.status import ServiceStatus
from pawqueue.client.submissions import Submission
from pawqueue.client.webhooks import Delivery, WebhookSecret

#: The name of `JobResult` in 0.1; it will be removed in the next release.
Outcome = JobResult

__all__ = [
    "BULK",
    "DEFAULT_URL",
    "INTERACTIVE",
    "AsyncPawqueue",
    "ClientError",
    "Counts",
    "Delivery",
    "Job",
    "JobError",
    "JobFailedError",
    "JobResult",
    "JobStatus",
    "ModelRef",
    "Outcome",
    "Pawqueue",
    "Prediction",
    "RefusedError",
    "Row",
    "ServedModel",
    "ServiceStatus",
    "Submission",
    "SubmissionStatus",
    "TimedOutError",
    "Timings",
    "UnreachableError",
    "WebhookSecret",
]
