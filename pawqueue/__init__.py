"""The Python client of Pawqueue: `with Pawqueue("http://127.0.0.1:8000") as client: client.predict("cat.jpg")`."""

from contract.job import Job, JobError, JobResult, JobStatus, ModelRef, Prediction, Timings
from pawqueue.client import BULK, DEFAULT_URL, INTERACTIVE, Pawqueue
from pawqueue.errors import ClientError, JobFailedError, RefusedError, TimedOutError, UnreachableError
from pawqueue.results import Row
from pawqueue.submission import Counts, Submission, SubmissionStatus

__all__ = [
    "BULK",
    "DEFAULT_URL",
    "INTERACTIVE",
    "ClientError",
    "Counts",
    "Job",
    "JobError",
    "JobFailedError",
    "JobResult",
    "JobStatus",
    "ModelRef",
    "Pawqueue",
    "Prediction",
    "RefusedError",
    "Row",
    "Submission",
    "SubmissionStatus",
    "TimedOutError",
    "Timings",
    "UnreachableError",
]
