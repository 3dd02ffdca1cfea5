"""The job calls of the HTTP interface, under a deadline that the caller holds."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import httpx

from contract.job import Job, new_job_id
from pawqueue.deadline import Deadline
from pawqueue.errors import RefusedError, TimedOutError
from pawqueue.text import valid_unicode
from pawqueue.wire import Body, Call, Wire, granted_s, object_of

#: What `submit` takes: a path, the bytes themselves, or a file opened for reading bytes.
Image = str | os.PathLike[str] | bytes | BinaryIO

#: Longest that one request waits for a job's end, in seconds; shorter than proxies cut connections off.
LONG_POLL_S = 20
#: Pause before asking again a server that does not hold its answer back.
_POLL_S = 0.5
#: Of a long path the end is sent: servers limit the length of addresses.
_NAME_MAX_CHARS = 200


class Jobs:
    """Submits and reads jobs; safe to share between threads. Every method raises what `Wire.send` raises."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def submit(self, body: Body, name: str, queue: str, deadline: Deadline, wait_s: float = 0) -> Job:
        """Send an image; the job may have ended already when `wait_s` lets the gateway hold its answer back.

        The job's id is made here, so that an image that is sent again after a lost answer is the same job.
        """
        query = {"queue": queue, "file": valid_unicode(name)[-_NAME_MAX_CHARS:]}
        call = Call("PUT", f"/v1/jobs/{new_job_id()}", query, body, wait_s=granted_s(wait_s, deadline))
        return self._job(self.wire.send(call, deadline))

    def get(self, job_id: str, deadline: Deadline, wait_s: float = 0) -> Job:
        """Read a job, for up to `wait_s` held back until it has ended."""
        path = f"/v1/jobs/{quote(job_id, safe='')}"
        return self._job(self.wire.send(Call("GET", path, wait_s=granted_s(wait_s, deadline)), deadline))

    def follow(self, job: Job, deadline: Deadline) -> Iterator[Job]:
        """Yield the job each time it was looked at, until it has ended.

        Raises:
            TimedOutError: the deadline passed first.
        """
        while not job.status.is_final:
            before_s = deadline.remaining_s()
            job = self._look(job, deadline)
            took_s = before_s - deadline.remaining_s()
            yield job
            if not job.status.is_final and took_s < _POLL_S:
                deadline.pause(min(_POLL_S, deadline.remaining_s() * 0.9))

    def cancel(self, job_id: str, deadline: Deadline) -> Job:
        """Withdraw a job; one that has ended stays as it is."""
        return self._job(self.wire.send(Call("DELETE", f"/v1/jobs/{quote(job_id, safe='')}"), deadline))

    def dead(self, deadline: Deadline) -> list[Job]:
        """The dead-letter list, the latest first."""
        listed = object_of(self.wire.send(Call("GET", "/v1/dead"), deadline))
        return [Job.from_dict(values) for values in listed["jobs"]]

    def retry_dead(self, job_id: str, deadline: Deadline) -> Job:
        """Submit the image of a dead job again; the new job."""
        return self._job(self.wire.send(Call("POST", f"/v1/dead/{quote(job_id, safe='')}/retry"), deadline))

    def drop_dead(self, job_id: str, deadline: Deadline) -> Job:
        """Take a job off the dead-letter list, with its image; that job."""
        return self._job(self.wire.send(Call("DELETE", f"/v1/dead/{quote(job_id, safe='')}"), deadline))

    def is_served(self, deadline: Deadline) -> bool:
        """Whether a worker serves a model now; a server that does not tell counts as if one did."""
        try:
            return bool(object_of(self.wire.send(Call("GET", "/health"), deadline)).get("model_loaded", True))
        except (RefusedError, ValueError, TypeError):
            return True

    def greet(self, deadline: Deadline) -> None:
        """Return once the gateway has answered anything at all."""
        self.wire.send(Call("GET", "/healthz"), deadline)

    def _look(self, job: Job, deadline: Deadline) -> Job:
        late = TimedOutError(_still(job, deadline), job=job)
        if deadline.remaining_s() == 0:
            raise late
        try:
            return self.get(job.id, deadline, LONG_POLL_S)
        except TimedOutError as error:
            raise late from error

    def _job(self, response: httpx.Response) -> Job:
        try:
            return Job.from_dict(object_of(response))
        except (KeyError, ValueError, TypeError) as error:
            raise self.wire.stranger() from error


def body_of(image: Image) -> tuple[Body, str]:
    """How to open an image, anew for every try, and its name.

    Raises:
        TypeError: it is none of the kinds of `Image`.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        content = bytes(image)
        return (lambda: nullcontext(content)), ""
    if isinstance(image, str | os.PathLike):
        path = Path(image)
        return file_body(path), path.name
    read = image.read() if hasattr(image, "read") else None
    if not isinstance(read, bytes):
        raise TypeError(f"An image is a path, bytes, or a file opened in mode 'rb', not {type(image).__name__}.")
    return (lambda: nullcontext(read)), _name_of(image)


def file_body(path: Path) -> Body:
    """Stream a file from the disk; one that has no bytes is sent as such."""

    @contextmanager
    def opened() -> Iterator[bytes | BinaryIO]:
        with path.open("rb") as file:
            yield file if os.fstat(file.fileno()).st_size else b""

    return opened


def _name_of(file: BinaryIO) -> str:
    name = getattr(file, "name", "")
    return Path(name).name if isinstance(name, str) else ""


def _still(job: Job, deadline: Deadline) -> str:
    return (
        f"Job {job.id} is still {job.status} after {deadline.patience_s:g} s; "
        "it goes on, ask for it again later by its id."
    )
