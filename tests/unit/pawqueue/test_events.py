"""`Pawqueue.follow`: jobs and submissions through server-sent events."""

import httpx
import pytest

from contract.job import new_job_id
from pawqueue import JobStatus, RefusedError, Submission, SubmissionStatus, UnreachableError
from pawqueue.client.connection import Connection
from pawqueue.client.deadline import Deadline
from pawqueue.client.events import follow
from pawqueue.client.jobs import JobOptions
from pawqueue.client.submissions import Submissions
from tests.support.images import draw
from tests.unit.pawqueue.service import URL, Script, Service, problem

IMAGE = draw((8, 8))
RETRY = "retry: 1\n\n"


def stream(*blocks: str) -> httpx.Response:
    return httpx.Response(200, text="".join(blocks), headers={"content-type": "text/event-stream"})


def event(name: str, number: int) -> str:
    return f'event: {name}\nid: id-{number}\ndata: {{"n": {number}}}\n\n'


def followed(*steps: httpx.Response | Exception, limit_s: float = 30.0) -> tuple[list[int], list[str]]:
    """What a client gets from these responses, and the `Last-Event-ID` of each of its requests."""
    script = Script(*steps)
    found = list(follow(Connection(URL, transport=script), "/x", lambda data: int(data["n"]), Deadline(limit_s)))
    return found, [request.headers.get("last-event-id", "") for request in script.requests]


def test_a_job_is_yielded_until_it_has_finished(service: Service) -> None:
    service.held = {"a.png"}
    client = service.client()
    job = client.submit(IMAGE, name="a.png")
    found = client.follow(job)
    assert next(found).status is JobStatus.QUEUED
    service.held = set()
    last = list(found)[-1]
    assert last == client.get(job.id)
    assert last.status is JobStatus.SUCCEEDED


def test_a_submission_is_found_by_its_id_and_yielded_until_it_has_finished(service: Service) -> None:
    client, submission_id = service.client(), new_job_id()
    Submissions(service.connection()).open(submission_id, "holiday", JobOptions("bulk"), Deadline(60))
    found = client.follow(submission_id)
    first = next(found)
    assert isinstance(first, Submission)
    assert first.status is SubmissionStatus.OPEN
    client.cancel(submission_id)
    assert list(found)[-1].status is SubmissionStatus.CANCELED


def test_an_unknown_id_is_refused(service: Service) -> None:
    with pytest.raises(RefusedError, match="No job or submission"):
        next(service.client().follow(new_job_id()))


def test_a_stream_that_ends_early_is_resumed_after_its_last_event() -> None:
    found, ids = followed(
        stream(RETRY, event("progress", 1), ":\n\n"),
        httpx.ReadError("lost"),
        problem(503, "unavailable", Retry_After="0"),
        stream(RETRY, event("progress", 2), "event: finished\nid: id-3\ndata: {"),
        stream(RETRY, event("finished", 3), event("progress", 4)),
    )
    assert found == [1, 2, 3]
    assert ids == ["", "id-1", "id-1", "id-1", "id-2"]


def test_a_purged_job_ends_with_an_error() -> None:
    with pytest.raises(RefusedError) as caught:
        followed(stream(RETRY, event("progress", 1)), problem(404, "not_found"))
    assert caught.value.code == "not_found"


def test_a_gateway_that_stays_away_is_reported() -> None:
    with pytest.raises(UnreachableError):
        followed(stream(RETRY, event("progress", 1)), httpx.ConnectError("refused"), limit_s=1.0)


@pytest.mark.parametrize("page", ["<html>Please sign in</html>", 'event: progress\ndata: {"x": 1}\n\n', "data: x\n\n"])
def test_something_else_than_a_gateway_is_reported(page: str) -> None:
    with pytest.raises(UnreachableError, match="not a Pawqueue gateway"):
        followed(stream(page))
