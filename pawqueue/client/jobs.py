"""The job endpoints: submit, read, cancel, and the dead-letter list."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from contract.job import Job, new_job_id
from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.events import follow

#: What `submit` accepts: a path, bytes, or a file opened in binary mode.
Image = str | os.PathLike[str] | bytes | BinaryIO

#: Duration of one long-polling request, in seconds; shorter than the timeouts of common proxies.
LONG_POLL_S = 20
#: Only the end of a long file name is sent, because servers limit the length of URLs.
_NAME_MAX_CHARS = 200


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How to process images."""

    #: `interactive` or `bulk`.
    queue: str
    #: `NAME` or `NAME@VERSION`; empty for the default model.
    model: str = ""
    #: Keep the probabilities of this many labels; None for the service's default.
    top_k: int | None = None
    #: URL that receives an event when the job or submission is finished; empty for that of the API key.
    webhook: str = ""

    def members(self) -> dict[str, str | int]:
        """The members of a submission's body, without those that are not set."""
        members: dict[str, str | int | None] = {
            "queue": self.queue,
            "model": self.model or None,
            "top_k": self.top_k,
            "webhook": self.webhook or None,
        }
        return {name: value for name, value in members.items() if value is not None}

    def query(self) -> dict[str, str | list[str]]:
        """The same as a query."""
        return {name: str(value) for name, value in self.members().items()}


class Jobs:
    """The job endpoints of one gateway; thread-safe. Every method raises like `Connection.send`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def submit(self, image: bytes, name: str, options: JobOptions, deadline: Deadline, wait_s: float = 0) -> Job:
        """Submit an image; with `wait_s` the job may already be finished.

        The client chooses the job's id, so a retry after a lost response does not create a second job.

        Raises:
            ClientError: the gateway is too old for the model of `options`. The job is canceled.
        """
        query = {"file": valid_unicode(name)[-_NAME_MAX_CHARS:], **options.query()}
        call = Call("PUT", _path(new_job_id()), query, image, wait_s=wait_s)
        job = self._connection.fetch(call, deadline, Job.from_dict)
        if options.model and job.model != options.model:
            self.cancel(job.id, deadline)
            raise self._connection.too_old(f"ignores the model {options.model}", "Update it, or name no model.")
        return job

    def get(self, job_id: str, deadline: Deadline, wait_s: float = 0) -> Job:
        """Read a job; waits up to `wait_s` for it to finish."""
        return self._connection.fetch(Call("GET", _path(job_id), wait_s=wait_s), deadline, Job.from_dict)

    def follow(self, job_id: str, deadline: Deadline) -> Iterator[Job]:
        """Yield a job now and after each change until it has finished; every event renews the deadline."""
        return follow(self._connection, _path(job_id), Job.from_dict, deadline)

    def cancel(self, job_id: str, deadline: Deadline) -> Job:
        """Cancel a job and return it; a finished job does not change."""
        return self._connection.fetch(Call("DELETE", _path(job_id)), deadline, Job.from_dict)

    def purge(self, job_id: str, deadline: Deadline) -> None:
        """Remove a job with everything that the service stores about it."""
        self._connection.purge(_path(job_id), deadline)

    def feedback(self, job_id: str, label: str, deadline: Deadline) -> bool:
        """Report the right label of a job; returns whether the prediction was right."""
        body = json.dumps({"label": label}).encode()
        call = Call("POST", f"{_path(job_id)}/feedback", body=body, content_type="application/json")
        return self._connection.fetch(call, deadline, lambda values: bool(values["correct"]))

    def dead(self, deadline: Deadline) -> list[Job]:
        """The dead-letter list, newest first."""
        return self._connection.fetch(Call("GET", "/v1/dead"), deadline, _jobs)

    def retry_dead(self, job_id: str, deadline: Deadline) -> Job:
        """Resubmit the image of a dead job; returns the new job."""
        return self._connection.fetch(Call("POST", f"{_dead_path(job_id)}/retry"), deadline, Job.from_dict)

    def drop_dead(self, job_id: str, deadline: Deadline) -> Job:
        """Remove a job and its image from the dead-letter list; returns the job."""
        return self._connection.fetch(Call("DELETE", _dead_path(job_id)), deadline, Job.from_dict)


def load_image(image: Image) -> tuple[bytes, str]:
    """The bytes of an image and its file name, which is empty for bytes.

    Raises:
        OSError: the file cannot be read, or does not fit into memory.
        TypeError: not one of the types of `Image`.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image), ""
    if isinstance(image, str | os.PathLike):
        with Path(image).open("rb") as file:
            return read_whole(file), Path(image).name
    content = image.read() if hasattr(image, "read") else None
    if not isinstance(content, bytes):
        raise TypeError(f"Expected a path, bytes, or a file opened in mode 'rb', not {type(image).__name__}.")
    name = getattr(image, "name", "")
    return content, Path(name).name if isinstance(name, str) else ""


def read_whole(file: BinaryIO) -> bytes:
    """Read a file; OSError if it does not fit into memory. Only the gateway limits the size of an image."""
    try:
        return file.read()
    except MemoryError:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)) from None


def valid_unicode(text: str) -> str:
    """Replace the undecodable bytes of a file name with escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _dead_path(job_id: str) -> str:
    return f"/v1/dead/{quote(job_id, safe='')}"


def _jobs(values: dict[str, Any]) -> list[Job]:
    return [Job.from_dict(job) for job in values["jobs"]]
