"""Event streams of jobs and submissions."""

import json
import re
import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.access import Scope, make_key
from contract.job import new_job_id
from gateway.http.job_schemas import SUCCEEDED_JOB, EventObject, JobObject, event_stream
from gateway.http.submission_schemas import SubmissionObject
from tests.support.archives import tar_of
from tests.support.images import draw
from tests.support.ledger import claim_jobs
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem, cat, unavailable, upload


class Events:
    """Reads the events of a response one by one: (name, id, data)."""

    def __init__(self, response: TestResponse) -> None:
        assert (response.status_code, response.mimetype) == (200, "text/event-stream"), response.text
        self.response = response
        #: The texts that are no events: comments, and when to reconnect.
        self.others: list[str] = []
        self._texts = response.iter_encoded()

    def __iter__(self) -> Iterator[tuple[str, str, Any]]:
        return self

    def __next__(self) -> tuple[str, str, Any]:
        for text in self._texts:
            block = text.decode()
            assert block.endswith("\n\n")
            if match := re.fullmatch(r"event: (.*)\nid: (.*)\ndata: (.*)\n\n", block):
                return match[1], match[2], json.loads(match[3])
            self.others.append(block)
        raise StopIteration

    def next_data(self, name: str) -> Any:
        """The data of the next event, which must have this name."""
        event, _, data = next(self)
        assert event == name
        return data


def follow(gateway: Gateway, path: str, last_id: str = "", **headers: str) -> TestResponse:
    if last_id:
        headers["Last-Event-ID"] = last_id
    return gateway.client.get(f"{path}/events", headers=headers)


def queued(gateway: Gateway) -> str:
    """The path of a new job."""
    return str(upload(gateway, draw()).headers["Location"])


def id_of(path: str) -> str:
    return path.rpartition("/")[2]


def opened(gateway: Gateway, images: int = 0) -> str:
    """The path of a submission with this number of images."""
    path = str(gateway.client.post("/v1/submissions", json={}).headers["Location"])
    if images:
        content = {f"{n}.png": draw(color=(n, 0, 0)) for n in range(images)}
        added = gateway.client.post(f"{path}/jobs", data=tar_of(content), content_type="application/x-tar")
        assert len(added.get_json()["accepted"]) == images
    return path


def jobs_of(gateway: Gateway, path: str) -> list[str]:
    return gateway.ledger.submission_job_ids(id_of(path), 0, 1000)


def test_a_job_is_followed_from_its_queue_to_its_result(gateway: Gateway) -> None:
    path = queued(gateway)
    events = Events(follow(gateway, path))
    assert events.response.headers["X-Accel-Buffering"] == "no"
    assert events.response.headers["Cache-Control"] == "no-store"
    only_read = {"queue_position", "estimated_wait_s"}
    job = gateway.client.get(path).get_json()
    assert events.next_data("progress") == {name: value for name, value in job.items() if name not in only_read}
    (claim,) = claim_jobs(gateway.ledger, [id_of(path)], 60_000, 60)
    assert claim
    assert events.next_data("progress")["status"] == "running"
    gateway.ledger.commit([(claim, cat())], 60)
    assert events.next_data("finished") == gateway.client.get(path).get_json()
    assert list(events) == []


def test_each_event_is_a_whole_object(gateway: Gateway) -> None:
    job, submission = queued(gateway), opened(gateway, 1)
    for path, model in ((job, JobObject), (submission, SubmissionObject)):
        events = Events(follow(gateway, path))
        data = events.next_data("progress")
        assert model.model_validate(data)
        assert data["urls"] == gateway.client.get(path).get_json()["urls"]
        events.response.close()


def test_the_documented_event_is_one_of_the_gateway(gateway: Gateway) -> None:
    path = queued(gateway)
    gateway.finish([id_of(path)])
    documented = event_stream(SUCCEEDED_JOB)["content"]["text/event-stream"]["example"]
    name, event_id, data = next(Events(follow(gateway, path)))
    assert EventObject.model_validate(documented).event == name
    assert re.fullmatch(r"\d+-succeeded-\d", event_id)
    assert re.fullmatch(r"\d+-succeeded-\d", documented["id"])
    assert json.loads(documented["data"]).keys() == data.keys()


def test_the_stream_of_a_finished_job_has_one_event(gateway: Gateway) -> None:
    path = queued(gateway)
    gateway.finish([id_of(path)])
    assert [name for name, _, _ in Events(follow(gateway, path))] == ["finished"]


def test_a_client_that_reconnects_gets_only_what_is_new(gateway: Gateway) -> None:
    path = queued(gateway)
    first = Events(follow(gateway, path))
    _, known_id, _ = next(first)
    first.response.close()
    again = Events(follow(gateway, path, known_id))
    gateway.finish([id_of(path)])
    seen = list(again)
    assert [data["status"] for _, _, data in seen][-1] == "succeeded"
    assert known_id not in [event_id for _, event_id, _ in seen]
    last_id = seen[-1][1]
    ended = follow(gateway, path, last_id)
    assert (ended.status_code, ended.data) == (204, b"")


def test_a_submission_is_followed_to_its_end(gateway: Gateway) -> None:
    path = opened(gateway, 3)
    events = Events(follow(gateway, path))
    assert events.next_data("progress")["counts"]["queued"] == 3
    gateway.finish(jobs_of(gateway, path)[:2])
    while (data := events.next_data("progress"))["counts"]["succeeded"] < 2:
        pass
    assert data["rate_per_s"] is not None
    gateway.client.post(f"{path}/close")
    while (data := events.next_data("progress"))["status"] != "closed":
        pass
    gateway.finish(jobs_of(gateway, path)[2:])
    seen = list(events)
    name, _, data = seen[-1]
    assert (name, data["status"], data["counts"]["succeeded"]) == ("finished", "finished", 3)
    assert data == gateway.client.get(path).get_json()


def test_images_that_are_added_later_are_progress(gateway: Gateway) -> None:
    path = opened(gateway)
    events = Events(follow(gateway, path))
    assert events.next_data("progress")["counts"]["total"] == 0
    gateway.client.post(f"{path}/jobs", data=tar_of({"a.png": draw()}), content_type="application/x-tar")
    assert events.next_data("progress")["counts"]["total"] == 1


def test_a_reader_that_pauses_gets_the_newest_state_instead_of_all(gateway: Gateway) -> None:
    path = opened(gateway, 40)
    events = Events(follow(gateway, path))
    events.next_data("progress")
    for job_id in jobs_of(gateway, path):  # meanwhile nobody reads
        gateway.finish([job_id])
    gateway.client.post(f"{path}/close")
    seen = list(events)
    assert (seen[-1][0], seen[-1][2]["counts"]["succeeded"]) == ("finished", 40)
    assert len(seen) <= 2


def test_progress_is_sent_at_most_twice_a_second(gateway: Gateway) -> None:
    path = opened(gateway, 40)
    events = Events(follow(gateway, path))
    events.next_data("progress")
    seen: list[int] = []
    reader = threading.Thread(target=lambda: seen.extend(data["counts"]["succeeded"] for _, _, data in events))
    reader.start()
    began_s = time.monotonic()
    for job_id in jobs_of(gateway, path):
        gateway.finish([job_id])
    took_s = time.monotonic() - began_s
    gateway.client.post(f"{path}/close")
    reader.join()
    assert seen == sorted(seen)
    assert seen[-1] == 40
    assert len(seen) <= 2 * took_s + 5


def test_canceling_and_retrying_are_seen(gateway: Gateway) -> None:
    path = queued(gateway)
    events = Events(follow(gateway, path))
    events.next_data("progress")
    (claim,) = claim_jobs(gateway.ledger, [id_of(path)], 60_000, 60)
    assert claim
    assert events.next_data("progress")["status"] == "running"
    gateway.ledger.release([claim])
    assert events.next_data("progress")["status"] == "queued"
    gateway.client.delete(path)
    assert events.next_data("finished")["status"] == "canceled"


@pytest.mark.parametrize("kind", ["job", "submission"])
def test_a_purge_ends_the_stream(gateway: Gateway, kind: str) -> None:
    path = queued(gateway) if kind == "job" else opened(gateway, 2)
    events = Events(follow(gateway, path))
    events.next_data("progress")
    assert gateway.client.delete(f"{path}?purge=true").status_code == 204
    assert "finished" not in [name for name, _, _ in events]
    assert_problem(follow(gateway, path), 404, "not_found")


def test_unknown_and_foreign_ids_are_not_found(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(access="required")

    def key(*scopes: Scope) -> dict[str, str]:
        stored, text = make_key("tests", scopes)
        gateway.keys.put(stored)
        return {"X-API-Key": text}

    ada, bob, sender = key(Scope.SUBMIT, Scope.READ), key(Scope.SUBMIT, Scope.READ), key(Scope.SUBMIT)
    image = gateway.client.post("/v1/jobs", data=draw(), content_type="image/png", headers=ada)
    many = gateway.client.post("/v1/submissions", json={}, headers=ada)
    for path in (image.headers["Location"], many.headers["Location"]):
        unknown = f"{path.rpartition('/')[0]}/{new_job_id()}"
        assert_problem(follow(gateway, unknown, **ada), 404, "not_found")
        assert_problem(follow(gateway, path, **bob), 404, "not_found")
        assert_problem(follow(gateway, path, **sender), 403, "forbidden")
        assert_problem(follow(gateway, path), 401, "unauthorized")
        own = Events(follow(gateway, path, **ada))
        own.next_data("progress")
        own.response.close()


def test_a_client_may_have_half_of_the_streams(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(events_max_streams="4")
    path = queued(gateway)
    streams = [follow(gateway, path) for _ in range(2)]
    assert "pawqueue_event_streams 2.0" in gateway.metrics()
    refused = follow(gateway, path)
    assert_problem(refused, 503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    streams.pop().close()
    streams.append(follow(gateway, path))
    assert streams[-1].status_code == 200
    assert gateway.client.head(f"{path}/events").status_code == 503
    for stream in streams:
        stream.close()
    with gateway.client.head(f"{path}/events") as unread:
        assert unread.status_code == 200
    assert "pawqueue_event_streams 0.0" in gateway.metrics()


def test_streams_end_when_the_gateway_stops(gateway: Gateway) -> None:
    path = queued(gateway)
    events = Events(follow(gateway, path))
    events.next_data("progress")
    gateway.services.end_waits()
    assert list(events) == []
    (_, last) = events.others
    assert re.fullmatch(r"retry: [1-5]\d{3}\n\n", last)


def test_a_stream_ends_after_its_maximum_duration(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(events_max_s="0.1")
    assert [name for name, _, _ in Events(follow(gateway, queued(gateway)))] == ["progress"]


def test_silence_is_interrupted_by_comments(make_gateway: MakeGateway) -> None:
    ticks = count()
    gateway = make_gateway(clock=lambda: 20.0 * next(ticks), events_max_s="600")
    events = Events(follow(gateway, queued(gateway)))
    assert [name for name, _, _ in events] == ["progress"]
    assert len(events.others) > 3
    assert set(events.others[1:]) == {":\n\n"}


@pytest.mark.parametrize("finishes", [True, False])
def test_changes_during_an_outage_of_redis_are_sent_after_it(gateway: Gateway, finishes: bool) -> None:
    path, has_failed = queued(gateway), threading.Event()

    def fail() -> None:
        has_failed.set()
        unavailable()

    events = Events(follow(gateway, path))
    events.next_data("progress")
    claims = [claim for claim in claim_jobs(gateway.ledger, [id_of(path)], 60_000, 60) if claim]
    assert events.next_data("progress")["status"] == "running"
    gateway.ledger.hooks["get"] = fail
    if finishes:
        gateway.ledger.cancel([id_of(path)], 60)
    else:
        gateway.ledger.release(claims)
    assert has_failed.wait(60)
    gateway.ledger.hooks.clear()
    assert next(events)[2]["status"] == ("canceled" if finishes else "queued")
    events.response.close()


def test_a_header_that_is_too_long_is_rejected(shared_gateway: Gateway) -> None:
    assert_problem(follow(shared_gateway, f"/v1/jobs/{new_job_id()}", "x" * 300), 400, "bad_request")
