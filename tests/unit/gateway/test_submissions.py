"""`/v1/submissions`: opening, adding images, waiting, canceling, and reading results."""

import gzip
import io
import json
import threading
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from contract.job import JobStatus, new_job_id
from contract.submission import image_job_id
from gateway.http.submission_schemas import (
    ADDED,
    CANCELED_SUBMISSION,
    FINISHED_SUBMISSION,
    OPEN_SUBMISSION,
    RESULT_LINE,
    RUNNING_SUBMISSION,
    AddedObject,
    ResultLine,
    SubmissionObject,
)
from tests.support.archives import tar_of, zip_of
from tests.support.images import draw
from tests.support.ledger import claim_jobs
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem, unavailable

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))
TAR, ZIP = "application/x-tar", "application/zip"


def open_submission(gateway: Gateway, **body: Any) -> str:
    response = gateway.client.post("/v1/submissions", json=body)
    assert response.status_code == 201
    return str(response.headers["Location"])


def send(gateway: Gateway, url: str, images: dict[str, bytes], kind: str = TAR) -> TestResponse:
    if kind == "form":
        parts = MultiDict([("file", (io.BytesIO(data), name)) for name, data in images.items()])
        return gateway.client.post(f"{url}/jobs", data=parts)
    body = tar_of(images) if kind == TAR else zip_of(images)
    return gateway.client.post(f"{url}/jobs", data=body, content_type=kind)


def read(gateway: Gateway, url: str) -> Any:
    return gateway.client.get(url).get_json()


def counts(gateway: Gateway, url: str) -> dict[str, int]:
    return {name: number for name, number in read(gateway, url)["counts"].items() if number}


def results(gateway: Gateway, url: str, query: str = "") -> list[Any]:
    response = gateway.client.get(f"{url}/results{query}")
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


def ids(response: TestResponse) -> list[str]:
    return [item["job_id"] for item in response.get_json()["accepted"]]


def test_a_submission_is_opened_with_and_without_options(gateway: Gateway) -> None:
    plain = gateway.client.post("/v1/submissions")
    assert plain.status_code == 201
    assert read(gateway, plain.headers["Location"])["queue"] == "bulk"
    body = read(gateway, open_submission(gateway, name="Holi\x1bday", queue="interactive", deadline_s=5))
    assert (body["name"], body["queue"], body["status"]) == ("Holiday", "interactive", "open")
    assert body["urls"]["jobs"] == f"/v1/submissions/{body['id']}/jobs"


@pytest.mark.parametrize(
    "body", [{"queue": "fast"}, {"name": "x" * 201}, {"deadline_s": 0}, {"name": 5}, [], "x", {"deadline_s": "soon"}]
)
def test_invalid_options_are_rejected(shared_gateway: Gateway, body: Any) -> None:
    assert_problem(shared_gateway.client.post("/v1/submissions", json=body), 400, "bad_request")


def test_a_body_that_is_not_json_is_rejected_as_such(shared_gateway: Gateway) -> None:
    for body in (b"name=cats", b"{", b"\xff", b"[" * 60_000):
        problem = assert_problem(shared_gateway.client.post("/v1/submissions", data=body), 400, "bad_request")
        assert "JSON" in problem["detail"]


def test_a_json_body_over_the_limit_is_rejected_by_its_own_limit(shared_gateway: Gateway) -> None:
    post = shared_gateway.client.post
    fits, too_large = (b"{}".ljust(size) for size in (65_536, 65_537))
    assert post("/v1/submissions", data=fits).status_code == 201
    gzipped = {"data": gzip.compress(too_large), "headers": {"Content-Encoding": "gzip"}}
    chunked = {"input_stream": io.BytesIO(too_large), "environ_overrides": {"wsgi.input_terminated": True}}
    for request in ({"data": too_large}, {"data": too_large * 2}, gzipped, chunked):
        problem = assert_problem(post("/v1/submissions", **request), 413, "upload_too_large")
        assert "JSON body is larger than the limit of 65,536 bytes" in problem["detail"]


def test_opening_repeatedly_under_an_id_or_key_returns_the_same_submission(gateway: Gateway) -> None:
    url = f"/v1/submissions/{new_job_id()}"
    first, second = (gateway.client.put(url, json={"name": "a"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.get_json()["id"] == second.get_json()["id"]
    assert_problem(gateway.client.put(url, json={"name": "b"}), 409, "conflict")
    key = {"Idempotency-Key": "k"}
    first, second = (gateway.client.post("/v1/submissions", json={"name": "a"}, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["Location"] == second.headers["Location"]
    assert_problem(gateway.client.post("/v1/submissions", json={"name": "b"}, headers=key), 422, "idempotency_mismatch")


@pytest.mark.parametrize("kind", ["form", TAR, ZIP])
def test_images_become_jobs_with_derived_ids(gateway: Gateway, kind: str) -> None:
    url = open_submission(gateway)
    added = send(gateway, url, {"a/red.png": RED, "a/blue.png": BLUE}, kind)
    assert added.status_code == 202
    body = added.get_json()
    assert [item["custom_id"] for item in body["accepted"]] == ["a/red.png", "a/blue.png"]
    assert (body["rejected"], body["left"], body["left_from"]) == ([], [], None)
    submission_id = url.rsplit("/", 1)[1]
    assert ids(added) == [image_job_id(submission_id, name) for name in ("a/red.png", "a/blue.png")]
    job = gateway.job(ids(added)[0])
    assert (job.file, job.queue, job.size_bytes) == ("a/red.png", "bulk", len(RED))
    assert gateway.image_of(job) == RED
    assert gateway.new_jobs == [("bulk", ids(added))]


def test_a_gzipped_tar_is_accepted(gateway: Gateway) -> None:
    url = open_submission(gateway)
    data = tar_of({"red.png": RED}, "w:gz")
    added = gateway.client.post(f"{url}/jobs", data=data, content_type=TAR)
    assert len(ids(added)) == 1


def test_a_message_contains_at_most_32_jobs(gateway: Gateway) -> None:
    added = send(gateway, open_submission(gateway), {f"{n}.png": RED for n in range(40)})
    assert [len(job_ids) for _, job_ids in gateway.new_jobs] == [32, 8]
    assert [job_id for _, job_ids in gateway.new_jobs for job_id in job_ids] == ids(added)


def test_resent_images_return_the_same_jobs_and_are_not_stored_twice(gateway: Gateway) -> None:
    url = open_submission(gateway)
    first = send(gateway, url, {"red.png": RED, "blue.png": BLUE})
    second = send(gateway, url, {"red.png": RED, "new.png": BLUE})
    assert ids(second)[0] == ids(first)[0]
    assert [item["repeated"] for item in second.get_json()["accepted"]] == [True, False]
    assert counts(gateway, url) == {"total": 3, "queued": 3}
    assert gateway.image_count() == 3


def test_another_image_under_the_same_name_is_a_conflict(gateway: Gateway) -> None:
    url = open_submission(gateway)
    send(gateway, url, {"red.png": RED})
    added = send(gateway, url, {"red.png": BLUE, "blue.png": BLUE}).get_json()
    assert [item["custom_id"] for item in added["accepted"]] == ["blue.png"]
    assert [(item["custom_id"], item["code"]) for item in added["rejected"]] == [("red.png", "conflict")]
    assert counts(gateway, url) == {"total": 2, "queued": 2}
    assert gateway.image_count() == 2


def test_rejected_images_do_not_affect_others_and_are_counted_once(gateway: Gateway) -> None:
    url = open_submission(gateway)
    images = {"notes.txt": b"not an image", "red.png": RED, "empty.png": b"", "large.png": RED + bytes(100_000)}
    for _ in range(2):
        added = send(gateway, url, images).get_json()
        assert [item["custom_id"] for item in added["accepted"]] == ["red.png"]
        codes = {item["custom_id"]: item["code"] for item in added["rejected"]}
        assert codes == {"notes.txt": "not_an_image", "empty.png": "empty_upload", "large.png": "upload_too_large"}
    assert counts(gateway, url) == {"total": 4, "queued": 1, "rejected": 3}
    rows = {row["custom_id"]: row for row in results(gateway, url, "?cursor=0")}
    assert rows.keys() == codes.keys()
    assert rows["notes.txt"]["status"] == "failed"
    assert rows["notes.txt"]["error"]["code"] == "not_an_image"
    assert "pawqueue_refused_total" in gateway.metrics()


def test_a_full_queue_returns_what_was_accepted_and_what_is_left(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(queue_max_jobs="40")
    url = open_submission(gateway)
    images = {f"{n}.png": RED for n in range(60)}
    response = send(gateway, url, images, "form")
    assert_problem(response, 429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    body = response.get_json()
    assert len(body["accepted"]) == 40
    assert body["left"] == [f"{n}.png" for n in range(40, 60)]
    assert body["left_from"] == "40.png"
    assert counts(gateway, url) == {"total": 40, "queued": 40}
    assert gateway.image_count() == 40
    gateway.finish(ids(response))
    rest = send(gateway, url, {name: images[name] for name in body["left"]}, "form")
    assert (rest.status_code, len(ids(rest))) == (202, 20)
    assert counts(gateway, url) == {"total": 60, "queued": 20, "succeeded": 40}


def test_a_full_queue_returns_the_first_image_of_an_archive_to_resend(make_gateway: MakeGateway) -> None:
    gateway = make_gateway(queue_max_jobs="10")
    response = send(gateway, open_submission(gateway), {f"{n}.png": RED for n in range(60)})
    assert_problem(response, 429, "queue_full")
    assert (len(ids(response)), response.get_json()["left_from"]) == (10, "10.png")


def test_an_upload_during_an_outage_lists_all_valid_images_as_left(gateway: Gateway) -> None:
    url = open_submission(gateway)
    gateway.ledger.hooks["submit"] = unavailable
    response = send(gateway, url, {"red.png": RED, "notes.txt": b"x"})
    gateway.ledger.hooks.clear()
    assert_problem(response, 503, "unavailable")
    assert response.get_json()["left"] == ["red.png"]
    assert send(gateway, url, {"red.png": RED}).status_code == 202


def test_a_closed_submission_accepts_no_more_images_and_finishes(gateway: Gateway) -> None:
    url = open_submission(gateway)
    (job_id,) = ids(send(gateway, url, {"red.png": RED}))
    for _ in range(2):
        assert gateway.client.post(f"{url}/close").get_json()["status"] == "closed"
    assert_problem(send(gateway, url, {"blue.png": BLUE}), 409, "conflict")
    gateway.finish([job_id])
    body = read(gateway, url)
    assert (body["status"], body["finished_at"] is not None) == ("finished", True)
    assert gateway.client.delete(url).get_json()["status"] == "finished"


def test_an_upload_returns_what_was_accepted_before_the_submission_was_closed(gateway: Gateway) -> None:
    url = open_submission(gateway)
    gateway.ledger.on_new_jobs = lambda _: gateway.ledger.close_submission(url.rsplit("/", 1)[1], 60)
    response = send(gateway, url, {f"{n}.png": RED for n in range(40)})
    assert_problem(response, 409, "conflict")
    assert (len(ids(response)), response.get_json()["left_from"]) == (32, "32.png")


def test_a_waiting_request_returns_when_the_submission_finishes(gateway: Gateway) -> None:
    url = open_submission(gateway)
    (job_id,) = ids(send(gateway, url, {"red.png": RED}))
    gateway.client.post(f"{url}/close")
    worker = threading.Timer(0.05, gateway.finish, ([job_id],))
    worker.start()
    response = gateway.client.get(url, headers={"Prefer": "wait=20"})
    worker.join()
    assert (response.get_json()["status"], response.headers["Preference-Applied"]) == ("finished", "wait=20")
    unfinished = gateway.client.get(open_submission(gateway), headers={"Prefer": "wait=0.1"})
    assert unfinished.get_json()["status"] == "open"


def test_canceling_a_submission_cancels_its_unfinished_jobs(gateway: Gateway) -> None:
    url = open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(20)}))
    gateway.finish(job_ids[:1])
    claim_jobs(gateway.ledger, job_ids[1:2], 10_000, 60)
    body = gateway.client.delete(url).get_json()
    assert body["status"] == "canceled"
    assert body["finished_at"]
    assert counts(gateway, url) == {"total": 20, "succeeded": 1, "canceled": 19}
    assert gateway.job(job_ids[1]).status is JobStatus.CANCELED
    assert_problem(send(gateway, url, {"blue.png": BLUE}), 409, "conflict")
    assert gateway.client.delete(url).get_json()["status"] == "canceled"


@pytest.mark.parametrize("submission_id", ["019abc12-3456-7890-abcd-ef0123456789", "nope", "%2e%2e"])
def test_unknown_submissions_are_not_found(shared_gateway: Gateway, submission_id: str) -> None:
    url = f"/v1/submissions/{submission_id}"
    assert_problem(shared_gateway.client.get(url), 404, "not_found")
    assert_problem(shared_gateway.client.delete(url), 404, "not_found")
    assert_problem(shared_gateway.client.get(f"{url}/results"), 404, "not_found")
    assert_problem(shared_gateway.client.post(f"{url}/close"), 404, "not_found")
    assert_problem(send(shared_gateway, url, {"red.png": RED}), 404, "not_found")


def test_the_latest_submissions_are_listed(gateway: Gateway) -> None:
    urls = [open_submission(gateway, name=str(n)) for n in range(3)]
    listed = gateway.client.get("/v1/submissions?limit=2").get_json()["submissions"]
    assert len(listed) == 2
    assert {submission["urls"]["self"] for submission in listed} <= set(urls)
    assert_problem(gateway.client.get("/v1/submissions?limit=0"), 400, "bad_request")


@pytest.mark.parametrize("deadline_s", [True, "60", 0, -1])
def test_a_deadline_must_be_a_positive_number(shared_gateway: Gateway, deadline_s: object) -> None:
    assert_problem(shared_gateway.client.post("/v1/submissions", json={"deadline_s": deadline_s}), 400, "bad_request")


def test_the_deadline_applies_to_each_job(gateway: Gateway) -> None:
    (job_id,) = ids(send(gateway, open_submission(gateway, deadline_s=2.5), {"red.png": RED}))
    job = gateway.job(job_id)
    assert job.deadline_ms == job.created_ms + 2500


@pytest.mark.parametrize("example", [OPEN_SUBMISSION, RUNNING_SUBMISSION, FINISHED_SUBMISSION, CANCELED_SUBMISSION])
def test_examples_match_their_schema(example: dict[str, Any]) -> None:
    SubmissionObject.model_validate(example, strict=True)
    assert example["counts"]["total"] == sum(example["counts"].values()) - example["counts"]["total"]


def test_real_responses_match_their_schema_and_have_no_other_members(gateway: Gateway) -> None:
    AddedObject.model_validate(ADDED, strict=True)
    ResultLine.model_validate(RESULT_LINE, strict=True)
    url = open_submission(gateway)
    added = send(gateway, url, {"red.png": RED, "notes.txt": b"x"}).get_json()
    AddedObject.model_validate(added, strict=True)
    assert set(added) == set(AddedObject.model_fields)
    body = read(gateway, url)
    SubmissionObject.model_validate(body, strict=True)
    assert set(body) == set(SubmissionObject.model_fields)
