"""The submission endpoints: many images that are sent, tracked and read together."""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from contract.errors import ConflictError, UploadError, error_classes
from contract.job import Job, time_text
from contract.result_row import ResultRow
from contract.submission import COUNTED, Counts, SubmissionStatus
from pawqueue.client.connection import Call, Connection, retry_after_s
from pawqueue.client.deadline import Deadline, retry_pause_s
from pawqueue.client.errors import ClientError
from pawqueue.client.events import follow
from pawqueue.client.jobs import JobOptions

#: Statuses of rows without a job: the gateway rejected the image, or the file could not be read.
REFUSED, UNREADABLE = "refused", "unreadable"
#: The error codes with which a gateway rejects an image of a submission.
_REFUSALS = frozenset(code for code, kind in error_classes().items() if issubclass(kind, UploadError | ConflictError))
_NDJSON = "application/x-ndjson, application/problem+json"
#: The start of the results in order of finishing, which can be followed while the submission runs, and in order of
#: acceptance, which end before the first unfinished job.
FINISHED, ACCEPTED = {"cursor": 0}, {"after": 0}
_TIMES = ("created_s", "closed_s", "finished_s", "estimated_end_s")


@dataclass(frozen=True, slots=True)
class Submission:
    """Many jobs sent together, and their progress; times are Unix time in seconds."""

    id: str
    status: SubmissionStatus
    counts: Counts
    name: str = ""
    #: `interactive` or `bulk`.
    queue: str = "bulk"
    #: The model of its jobs: `NAME` or `NAME@VERSION`; empty for the default model.
    model: str = ""
    created_s: float | None = None
    closed_s: float | None = None
    finished_s: float | None = None
    #: Images finished per second, recently; None if unknown.
    rate_per_s: float | None = None
    estimated_end_s: float | None = None

    @property
    def ended(self) -> int:
        """Finished images, including rejected ones."""
        return self.counts.total - self.counts.pending

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times as RFC 3339."""
        return {
            "id": self.id,
            "name": self.name,
            "queue": self.queue,
            "requested_model": self.model or None,
            "status": str(self.status),
            **{f"{name[:-2]}_at": _time_text(getattr(self, name)) for name in _TIMES},
            "counts": {"total": self.counts.total, **asdict(self.counts)},
            "rate_per_s": self.rate_per_s,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Submission":
        """Read a submission object of the HTTP API; unknown fields are ignored."""
        counts = {name: int(values["counts"][name]) for name in COUNTED}
        times = {name: _unix_time(values.get(f"{name[:-2]}_at")) for name in _TIMES}
        return cls(
            id=values["id"],
            status=SubmissionStatus(values["status"]),
            counts=Counts(**counts),
            name=values.get("name") or "",
            queue=values.get("queue", "bulk"),
            model=values.get("requested_model") or "",
            rate_per_s=values.get("rate_per_s"),
            **times,
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why the gateway rejected an image."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Added:
    """The response to one request with images; resend those in neither `accepted` nor `rejected`."""

    #: Job ids by `custom_id`.
    accepted: dict[str, str]
    #: By `custom_id`.
    rejected: dict[str, Rejected]
    #: Seconds to wait before resending the rest; None if the response has no `Retry-After`.
    retry_after_s: float | None
    #: Why the rest was not accepted; empty if everything was.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One line of a submission's results."""

    #: Position in the order of acceptance, from 1.
    n: int
    #: Position in the order of finishing, from 1; None in order of acceptance, and from gateways of 0.1.
    cursor: int | None
    #: Its `file` is the image's `custom_id`.
    job: Job

    @property
    def place(self) -> Mapping[str, int]:
        """The position from which to continue after this line."""
        return {"after": self.n} if self.cursor is None else {"cursor": self.cursor}

    @property
    def row(self) -> ResultRow:
        """The job as a row; a rejected image has the same row as in the response to its upload."""
        row = ResultRow.of(self.job)
        return replace(row, status=REFUSED, job_id="", latency_ms=None) if row.error_code in _REFUSALS else row


class Submissions:
    """The submission endpoints of one gateway; thread-safe. Methods raise like `Connection.send`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def open(self, submission_id: str, name: str, options: JobOptions, deadline: Deadline) -> Submission:
        """Create a submission with an id of your choice (a UUID), or return the existing one.

        Raises:
            ClientError: the gateway is too old for the model of `options`.
        """
        body = json.dumps({"name": name, **options.members()}).encode()
        call = Call("PUT", _path(submission_id), body=body, content_type="application/json")
        submission = self._connection.fetch(call, deadline, Submission.from_dict)
        if options.model and submission.model != options.model:
            raise self._connection.too_old(f"ignores the model {options.model}", "Update it, or name no model.")
        return submission

    def add(self, submission_id: str, images: Sequence[tuple[str, bytes]], deadline: Deadline) -> Added:
        """Send images, each with its `custom_id`, in one request; resent images are not duplicated."""
        return self._add(submission_id, _tar(images), "application/x-tar", deadline)

    def add_addresses(self, submission_id: str, images: Sequence[tuple[str, str]], deadline: Deadline) -> Added:
        """The same for images at an address, which the service fetches: each with its `custom_id` and its address."""
        body = {"images": [{"custom_id": custom_id, "url": address} for custom_id, address in images]}
        return self._add(submission_id, json.dumps(body).encode(), "application/json", deadline)

    def _add(self, submission_id: str, body: bytes, content_type: str, deadline: Deadline) -> Added:
        call = Call(
            "POST",
            f"{_path(submission_id)}/jobs",
            body=body,
            content_type=content_type,
            accepted_errors=frozenset({429}),
        )
        response = self._connection.send(call, deadline)
        return self._connection.parsed(response, lambda values: _added(values, retry_after_s(response)))

    def close(self, submission_id: str, deadline: Deadline) -> Submission:
        """Close a submission: it accepts no more images."""
        return self._connection.fetch(Call("POST", f"{_path(submission_id)}/close"), deadline, Submission.from_dict)

    def get(self, submission_id: str, deadline: Deadline, wait_s: float = 0) -> Submission:
        """Read a submission; waits up to `wait_s` for it to finish."""
        return self._connection.fetch(Call("GET", _path(submission_id), wait_s=wait_s), deadline, Submission.from_dict)

    def follow(self, submission_id: str, deadline: Deadline) -> Iterator[Submission]:
        """Yield a submission now and after each change until it has finished; every event renews the deadline."""
        return follow(self._connection, _path(submission_id), Submission.from_dict, deadline)

    def cancel(self, submission_id: str, deadline: Deadline) -> Submission:
        """Close a submission and cancel its unfinished jobs."""
        return self._connection.fetch(Call("DELETE", _path(submission_id)), deadline, Submission.from_dict)

    def purge(self, submission_id: str, deadline: Deadline) -> None:
        """Remove a submission and its jobs with everything that the service stores about them."""
        self._connection.purge(_path(submission_id), deadline)

    def latest(self, limit: int, deadline: Deadline) -> list[Submission]:
        """The caller's latest submissions, newest first."""
        return self._connection.fetch(Call("GET", "/v1/submissions", {"limit": str(limit)}), deadline, _submissions)

    def results(
        self, submission_id: str, deadline: Deadline, place: Mapping[str, int], statuses: Sequence[str] = ()
    ) -> Iterator[ResultLine]:
        """Yield the finished jobs, or those in `statuses`, after a position: `FINISHED`, `ACCEPTED`, or that of a line.

        One request, never retried; `all_results` resumes after a lost connection.
        """
        query: dict[str, str | list[str]] = {name: str(number) for name, number in place.items()}
        if statuses:
            query["status"] = list(statuses)
        call = Call("GET", f"{_path(submission_id)}/results", query, accept=_NDJSON)
        for line in self._connection.lines(call, deadline):
            if line.strip():
                yield self._result(line)

    def all_results(
        self, submission_id: str, deadline: Deadline, place: Mapping[str, int], statuses: Sequence[str] = ()
    ) -> Iterator[ResultLine]:
        """Like `results`, but resumes after a lost connection; every line renews the deadline."""
        tries = 0
        while True:
            try:
                for line in self.results(submission_id, deadline, place, statuses):
                    place, tries = line.place, 0
                    deadline.renew()
                    yield line
            except ClientError as error:
                tries += 1
                if not error.retryable or not deadline.pause(retry_pause_s(tries, error.retry_after_s)):
                    raise
            else:
                return

    def _result(self, line: str) -> ResultLine:
        try:
            values = json.loads(line)
            job = {**values, "id": values.get("job_id") or "", "file": values["custom_id"], "queue": ""}
            return ResultLine(int(values["n"]), values.get("cursor"), Job.from_dict(job))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._connection.not_a_gateway() from error


def _path(submission_id: str) -> str:
    return f"/v1/submissions/{quote(submission_id, safe='')}"


def _tar(images: Sequence[tuple[str, bytes]]) -> bytes:
    parts = []
    for custom_id, content in images:
        info = tarfile.TarInfo(custom_id)
        info.size = len(content)
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        parts += [header, content, bytes(-len(content) % tarfile.BLOCKSIZE)]
    return b"".join([*parts, bytes(2 * tarfile.BLOCKSIZE)])


def _added(values: dict[str, Any], pause_s: float | None) -> Added:
    return Added(
        accepted={item["custom_id"]: item["job_id"] for item in values.get("accepted", ())},
        rejected={item["custom_id"]: Rejected(item["code"], item["detail"]) for item in values.get("rejected", ())},
        retry_after_s=pause_s,
        reason=str(values.get("detail", "")),
    )


def _submissions(values: dict[str, Any]) -> list[Submission]:
    return [Submission.from_dict(submission) for submission in values["submissions"]]


def _unix_time(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _time_text(time_s: float | None) -> str | None:
    return None if time_s is None else time_text(round(time_s * 1000))
