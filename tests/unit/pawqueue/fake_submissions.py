"""A gateway that keeps submissions in memory, as the HTTP interface describes them."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from pawqueue.submissions import Submissions
from pawqueue.wire import Wire
from tests.unit.pawqueue.fakes import URL, answer, problem

_LATEST = "2026-01-01T00:00:01.250Z"


@dataclass
class FakeJob:
    """An image that was accepted or rejected; `status` is `queued` until the gateway's `finish` says otherwise."""

    n: int
    custom_id: str
    job_id: str
    content: bytes
    result: dict[str, Any] = field(default_factory=lambda: {"status": "queued"})

    def line(self) -> dict[str, Any]:
        ended = self.result["status"] not in ("queued", "running")
        return {
            "n": self.n,
            "custom_id": self.custom_id,
            "job_id": self.job_id,
            "prediction": None,
            "error": None,
            "model": None,
            "attempts": 1,
            "timings": None,
            "created_at": "2026-01-01T00:00:01.000Z",
            "finished_at": _LATEST if ended else None,
            **self.result,
        }


@dataclass
class FakeSubmission:
    status: str = "open"
    name: str = ""
    queue: str = "bulk"
    jobs: dict[str, FakeJob] = field(default_factory=dict)


def predicted(label: str = "cat", confidence: float = 0.75) -> dict[str, Any]:
    """The result of a job with a prediction; the model knows cats and dogs."""
    other = {"cat": "dog", "dog": "cat"}[label]
    return {
        "status": "succeeded",
        "prediction": {
            "label": label,
            "confidence": confidence,
            "probabilities": {label: confidence, other: 1 - confidence},
        },
        "model": {"name": "cats-dogs", "version": "1.0"},
    }


def failed(code: str) -> dict[str, Any]:
    """The result of a job without a prediction."""
    return {"status": "failed", "error": {"code": code, "detail": f"It is {code}."}}


class FakeSubmissions(httpx.BaseTransport):
    """Answers like a gateway whose worker is done with every image as soon as its result is asked for.

    `results` gives those that differ from "cat"; `rejects` the codes of images that are not taken; `room` is how
    many more images are taken before the answer is 429 (each such answer makes room for `more_room`); `faults` are
    raised or answered, one a request, in place of an answer that is lost after the request was met.
    """

    def __init__(
        self,
        results: dict[str, dict[str, Any]] | None = None,
        rejects: dict[str, str] | None = None,
        *,
        room: int = 10**9,
        more_room: int = 10**9,
    ) -> None:
        self.results = results or {}
        self.rejects = rejects or {}
        self.room, self.more_room = room, more_room
        #: Called with each request after it was met and before it is answered; what it returns is answered instead.
        self.before_answer: Callable[[httpx.Request], httpx.Response | None] = lambda _request: None
        #: Images whose result does not come.
        self.held: set[str] = set()
        self.model_loaded = True
        self.submissions: dict[str, FakeSubmission] = {}
        self.requests: list[httpx.Request] = []
        #: `custom_id` of every image that was sent, as often as it was.
        self.sent: list[str] = []
        self._lock = threading.Lock()

    def client(self) -> Submissions:
        return Submissions(Wire(URL, transport=self))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        with self._lock:
            self.requests.append(request)
            response = self._respond(request)
        return self.before_answer(request) or response

    def paths(self) -> list[str]:
        """Method and last part of the path of every request about submissions."""
        return [f"{r.method} {r.url.path.rsplit('/', 1)[-1]}" for r in self.requests if "submissions" in r.url.path]

    def _respond(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.strip("/").split("/")
        if parts[:2] != ["v1", "submissions"]:
            if parts[:2] == ["v1", "jobs"]:
                return problem(404, "not_found")
            return answer(200, {"status": "alive", "model_loaded": self.model_loaded})
        if len(parts) == 2:
            return answer(200, {"submissions": [self._object(known) for known in reversed(self.submissions)]})
        if request.method == "PUT":
            values = json.loads(request.content)
            self.submissions.setdefault(parts[2], FakeSubmission(name=values["name"], queue=values["queue"]))
        if parts[2] not in self.submissions:
            return problem(404, "not_found", "There is no such submission.")
        return self._of_one(request, parts[2], parts[3] if len(parts) > 3 else "")

    def _of_one(self, request: httpx.Request, submission_id: str, what: str) -> httpx.Response:
        submission = self.submissions[submission_id]
        if what == "jobs":
            return self._add(submission, submission_id, request)
        if what == "results":
            return self._results(submission, request)
        if what == "close" and submission.status == "open":
            submission.status = "closed"
        if request.method == "DELETE":
            submission.status = "canceled"
            for job in submission.jobs.values():
                if job.result["status"] == "queued":
                    job.result = {"status": "canceled"}
        self._work(submission)
        return answer(200, self._object(submission_id))

    def _add(self, submission: FakeSubmission, submission_id: str, request: httpx.Request) -> httpx.Response:
        if submission.status != "open":
            return problem(409, "conflict", "The submission is closed.")
        said: dict[str, list[Any]] = {"accepted": [], "rejected": [], "left": []}
        assert request.headers["content-type"] == "application/x-tar"
        assert int(request.headers["content-length"]) == len(request.content)
        for custom_id, content in _members(request.content):
            self.sent.append(custom_id)
            self._take(submission, submission_id, custom_id, content, said)
        if not said["left"]:
            return answer(202, said)
        self.room += self.more_room
        refusal = problem(429, "queue_full", "The queue is full.", Retry_After="1")
        return httpx.Response(429, headers=refusal.headers, json={**refusal.json(), **said})

    def _take(
        self,
        submission: FakeSubmission,
        submission_id: str,
        custom_id: str,
        content: bytes,
        said: dict[str, list[Any]],
    ) -> None:
        known = submission.jobs.get(custom_id)
        job_id = hashlib.sha256(f"{submission_id}/{custom_id}".encode()).hexdigest()
        if said["left"] or (known is None and self.room <= 0):
            said["left"].append(custom_id)
        elif known and known.content != content:
            said["rejected"].append({"custom_id": custom_id, "code": "conflict", "detail": "Other bytes."})
        elif custom_id in self.rejects:
            said["rejected"].append({"custom_id": custom_id, "code": self.rejects[custom_id], "detail": "Send JPEG."})
            result = {"status": "failed", "error": {"code": self.rejects[custom_id], "detail": "Send JPEG."}}
            submission.jobs[custom_id] = FakeJob(len(submission.jobs) + 1, custom_id, "", content, result)
        else:
            self.room -= known is None
            submission.jobs.setdefault(custom_id, FakeJob(len(submission.jobs) + 1, custom_id, job_id, content))
            said["accepted"].append({"custom_id": custom_id, "job_id": job_id, "repeated": known is not None})

    def _results(self, submission: FakeSubmission, request: httpx.Request) -> httpx.Response:
        self._work(submission)
        wanted = request.url.params.get_list("status")
        after = int(request.url.params.get("after", "0"))
        lines = [
            json.dumps(job.line()) + "\n"
            for job in list(submission.jobs.values())[after:]
            if (job.result["status"] in wanted if wanted else job.result["status"] != "queued")
        ]
        if limit := request.url.params.get("limit"):
            lines = lines[: int(limit)]
        return httpx.Response(200, content="".join(lines), headers={"content-type": "application/x-ndjson"})

    def _work(self, submission: FakeSubmission) -> None:
        for custom_id, job in submission.jobs.items():
            if job.result["status"] == "queued" and custom_id not in self.held:
                job.result = self.results.get(custom_id, predicted())
        if submission.status == "closed" and all(job.result["status"] != "queued" for job in submission.jobs.values()):
            submission.status = "finished"

    def _object(self, submission_id: str) -> dict[str, Any]:
        submission = self.submissions[submission_id]
        statuses = [job.result["status"] if job.job_id else "rejected" for job in submission.jobs.values()]
        names = ("queued", "running", "succeeded", "failed", "canceled", "expired", "rejected")
        return {
            "id": submission_id,
            "name": submission.name,
            "queue": submission.queue,
            "status": submission.status,
            "created_at": "2026-01-01T00:00:00.000Z",
            "closed_at": None,
            "finished_at": None,
            "counts": {"total": len(statuses), **{name: statuses.count(name) for name in names}},
            "rate_per_s": 12.5,
            "estimated_end_at": None,
            "urls": {},
        }


def _members(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file
            yield member.name, file.read()
