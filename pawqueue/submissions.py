"""The submission calls of the HTTP interface, under a deadline that the caller holds."""

import json
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from pawqueue.deadline import Deadline
from pawqueue.image import LoadedImage
from pawqueue.submission import Submission
from pawqueue.tarring import tar_body, tar_bytes
from pawqueue.wire import Call, Wire, granted_s, object_of, retry_after_s

_NDJSON = "application/x-ndjson, application/problem+json"


@dataclass(frozen=True, slots=True)
class Rejected:
    """An image that the gateway does not take."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of images that were sent; one that is in neither is to be sent again, after `retry_after_s`."""

    #: Job ids by `custom_id`.
    accepted: dict[str, str]
    #: By `custom_id`.
    rejected: dict[str, Rejected]
    #: Seconds to wait before the rest is sent; None when the gateway asked for none.
    retry_after_s: float | None
    #: Why the rest was not taken, for people; empty when all was.
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ResultLine:
    """One line of a submission's results."""

    #: Its place in the order of acceptance, from 1.
    n: int
    custom_id: str
    #: As the gateway sent it.
    values: dict[str, Any]


class Submissions:
    """Opens, fills and reads submissions; safe to share between threads. Methods raise what `Wire.send` raises."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def open(self, submission_id: str, name: str, queue: str, deadline: Deadline) -> Submission:
        """Open a submission under an id of the caller's choice (a UUID); one that is there already is returned."""
        body = json.dumps({"name": name, "queue": queue}).encode()
        call = Call("PUT", _path(submission_id), body=lambda: nullcontext(body), content_type="application/json")
        return self._submission(self.wire.send(call, deadline))

    def add(self, submission_id: str, images: Sequence[LoadedImage], deadline: Deadline) -> Taken:
        """Send images as one tar; those of them that are sent again are the same jobs.

        Raises:
            OSError: an image too large for memory can no longer be read, or has changed its size.
        """
        call = Call(
            "POST",
            f"{_path(submission_id)}/jobs",
            body=tar_body(images),
            content_type="application/x-tar",
            content_length=tar_bytes(images),
            takes=frozenset({429}),
        )
        response = self.wire.send(call, deadline)
        try:
            return _taken(object_of(response), response)
        except (KeyError, ValueError, TypeError) as error:
            raise self.wire.stranger() from error

    def close(self, submission_id: str, deadline: Deadline) -> Submission:
        """Let it take no more images."""
        return self._submission(self.wire.send(Call("POST", f"{_path(submission_id)}/close"), deadline))

    def get(self, submission_id: str, deadline: Deadline, wait_s: float = 0) -> Submission:
        """Read a submission, for up to `wait_s` held back until it has finished."""
        call = Call("GET", _path(submission_id), wait_s=granted_s(wait_s, deadline))
        return self._submission(self.wire.send(call, deadline))

    def cancel(self, submission_id: str, deadline: Deadline) -> Submission:
        """Close it and withdraw its jobs that have not ended."""
        return self._submission(self.wire.send(Call("DELETE", _path(submission_id)), deadline))

    def latest(self, limit: int, deadline: Deadline) -> list[Submission]:
        """The caller's latest submissions, the newest first."""
        response = self.wire.send(Call("GET", "/v1/submissions", {"limit": str(limit)}), deadline)
        try:
            return [Submission.from_dict(values) for values in object_of(response)["submissions"]]
        except (KeyError, ValueError, TypeError) as error:
            raise self.wire.stranger() from error

    def results(
        self,
        submission_id: str,
        deadline: Deadline,
        after: int = 0,
        statuses: Sequence[str] = (),
        limit: int | None = None,
    ) -> Generator[ResultLine]:
        """Yield the ended jobs behind the `after`-th accepted image, in order of acceptance; asked once.

        With `statuses` those in these states; with a `limit` no more than so many.
        """
        query: dict[str, str | list[str]] = {"after": str(after)}
        if statuses:
            query["status"] = list(statuses)
        if limit is not None:
            query["limit"] = str(limit)
        call = Call("GET", f"{_path(submission_id)}/results", query, accept=_NDJSON)
        for line in self.wire.lines(call, deadline):
            if line.strip():
                yield self._result(line)

    def _result(self, line: str) -> ResultLine:
        try:
            values = json.loads(line)
            return ResultLine(int(values["n"]), values["custom_id"], values)
        except (KeyError, ValueError, TypeError) as error:
            raise self.wire.stranger() from error

    def _submission(self, response: httpx.Response) -> Submission:
        try:
            return Submission.from_dict(object_of(response))
        except (KeyError, ValueError, TypeError) as error:
            raise self.wire.stranger() from error


def _path(submission_id: str) -> str:
    return f"/v1/submissions/{quote(submission_id, safe='')}"


def _taken(values: dict[str, Any], response: httpx.Response) -> Taken:
    return Taken(
        accepted={item["custom_id"]: item["job_id"] for item in values.get("accepted", ())},
        rejected={item["custom_id"]: Rejected(item["code"], item["detail"]) for item in values.get("rejected", ())},
        retry_after_s=retry_after_s(response),
        reason=str(values.get("detail", "")),
    )
