"""The Python client of Pawqueue: `with Pawqueue("http://127.0.0.1:8000") as client: client.predict("cat.jpg")`."""

from contract.job import Job, JobError, JobStatus, ModelRef, Outcome, Prediction, Timings
from pawqueue.client import BULK, DEFAULT_URL, INTERACTIVE, Pawqueue
from pawqueue.errors import ClientError, JobFailedError, RefusedError, TimedOutError, UnreachableError

__all__ = [
    "BULK",
    "DEFAULT_URL",
    "INTERACTIVE",
    "ClientError",
    "Job",
    "JobError",
    "JobFailedError",
    "JobStatus",
    "ModelRef",
    "Outcome",
    "Pawqueue",
    "Prediction",
    "RefusedError",
    "TimedOutError",
    "Timings",
    "UnreachableError",
]
