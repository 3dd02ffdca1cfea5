"""Submissions over HTTP, on the gateway in memory."""

import csv
import io
import json
import threading
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from contract.errors import UnavailableError
from contract.job import JobError, JobResult, JobStatus, new_job_id
from contract.result_row import CSV_COLUMNS as COLUMNS
from contract.submission import image_job_id
from gateway.results import CSV_COLUMNS
from gateway.submission_examples import (
    CANCELED_SUBMISSION,
    FINISHED_SUBMISSION,
    OPEN_SUBMISSION,
    RESULT_LINE,
    RUNNING_SUBMISSION,
    TAKEN,
)
from gateway.submission_schemas import (
    ResultLine,
    SubmissionObject,
    TakenObject,
)
from tests.support.archives import tar_of, zip_of
from tests.support.images import draw
from tests.unit.gateway.conftest import Gateway, cat, make_gateway
from tests.unit.gateway.test_jobs import refused

RED, BLUE = draw(color=(200, 0, 0)), draw(color=(0, 0, 200))
TAR, ZIP = "application/x-tar", "application/zip"


def opened(gateway: Gateway, **body: Any) -> str:
    response = gateway.client.post("/v1/submissions", json=body)
    assert response.status_code == 201
    return str(response.headers["Location"])


def send(gateway: Gateway, address: str, photos: dict[str, bytes], form: str = TAR) -> TestResponse:
    if form == "form":
        parts = MultiDict([("file", (io.BytesIO(data), name)) for name, data in photos.items()])
        return gateway.client.post(f"{address}/jobs", data=parts)
    body = tar_of(photos) if form == TAR else zip_of(photos)
    return gateway.client.post(f"{address}/jobs", data=body, content_type=form)


def read(gateway: Gateway, address: str) -> Any:
    return gateway.client.get(address).get_json()


def counts(gateway: Gateway, address: str) -> dict[str, int]:
    return {name: number for name, number in read(gateway, address)["counts"].items() if number}


def results(gateway: Gateway, address: str, query: str = "") -> list[Any]:
    response = gateway.client.get(f"{address}/results{query}")
    assert response.status_code == 200
    return [json.loads(line) for line in response.text.splitlines()]


def end(gateway: Gateway, *job_ids: str) -> None:
    gateway.end(list(job_ids), cat())


def ids(response: TestResponse) -> list[str]:
    return [item["job_id"] for item in response.get_json()["accepted"]]


def test_a_submission_is_opened_with_and_without_a_wish(gateway: Gateway) -> None:
    plain = gateway.client.post("/v1/submissions")
    assert plain.status_code == 201
    assert read(gateway, plain.headers["Location"])["queue"] == "bulk"
    body = read(gateway, opened(gateway, name="Holi\x1bday", queue="interactive", deadline_s=5))
    assert (body["name"], body["queue"], body["status"]) == ("Holiday", "interactive", "open")
    assert body["urls"]["jobs"] == f"/v1/submissions/{body['id']}/jobs"


@pytest.mark.parametrize(
    "body", [{"queue": "fast"}, {"name": "x" * 201}, {"deadline_s": 0}, {"name": 5}, [], "x", {"deadline_s": "soon"}]
)
def test_a_wish_that_does_not_fit_is_refused(refusing: Gateway, body: Any) -> None:
    refused(refusing.client.post("/v1/submissions", json=body), 400, "bad_request")


def test_opening_again_under_an_id_or_a_key_is_safe(gateway: Gateway) -> None:
    address = f"/v1/submissions/{new_job_id()}"
    first, second = (gateway.client.put(address, json={"name": "a"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.get_json()["id"] == second.get_json()["id"]
    refused(gateway.client.put(address, json={"name": "b"}), 409, "conflict")
    key = {"Idempotency-Key": "k"}
    first, second = (gateway.client.post("/v1/submissions", json={"name": "a"}, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["Location"] == second.headers["Location"]
    refused(gateway.client.post("/v1/submissions", json={"name": "b"}, headers=key), 422, "idempotency_mismatch")


@pytest.mark.parametrize("form", ["form", TAR, ZIP])
def test_pictures_become_jobs_under_ids_of_their_own(gateway: Gateway, form: str) -> None:
    address = opened(gateway)
    taken = send(gateway, address, {"a/red.png": RED, "a/blue.png": BLUE}, form)
    assert taken.status_code == 202
    body = taken.get_json()
    assert [item["custom_id"] for item in body["accepted"]] == ["a/red.png", "a/blue.png"]
    assert (body["rejected"], body["left"], body["left_from"]) == ([], [], None)
    submission_id = address.rsplit("/", 1)[1]
    assert ids(taken) == [image_job_id(submission_id, name) for name in ("a/red.png", "a/blue.png")]
    job = gateway.job(ids(taken)[0])
    assert (job.file, job.queue, job.size_bytes) == ("a/red.png", "bulk", len(RED))
    assert gateway.images.get([job.image]) == [RED]
    assert gateway.published == [("bulk", ids(taken))]


def test_a_gzipped_tar_is_a_tar(gateway: Gateway) -> None:
    address = opened(gateway)
    data = tar_of({"red.png": RED}, "w:gz")
    taken = gateway.client.post(f"{address}/jobs", data=data, content_type=TAR)
    assert len(ids(taken)) == 1


def test_a_message_holds_one_batch(gateway: Gateway) -> None:
    taken = send(gateway, opened(gateway), {f"{n}.png": RED for n in range(40)})
    assert [len(job_ids) for _, job_ids in gateway.published] == [32, 8]
    assert [job_id for _, job_ids in gateway.published for job_id in job_ids] == ids(taken)


def test_sending_again_gives_the_same_jobs_and_keeps_no_second_image(gateway: Gateway) -> None:
    address = opened(gateway)
    first = send(gateway, address, {"red.png": RED, "blue.png": BLUE})
    second = send(gateway, address, {"red.png": RED, "new.png": BLUE})
    assert ids(second)[0] == ids(first)[0]
    assert [item["repeated"] for item in second.get_json()["accepted"]] == [True, False]
    assert counts(gateway, address) == {"total": 3, "queued": 3}
    assert len(gateway.images._images) == 3


def test_another_image_under_the_same_name_is_a_conflict_of_its_own(gateway: Gateway) -> None:
    address = opened(gateway)
    send(gateway, address, {"red.png": RED})
    taken = send(gateway, address, {"red.png": BLUE, "blue.png": BLUE}).get_json()
    assert [item["custom_id"] for item in taken["accepted"]] == ["blue.png"]
    assert [(item["custom_id"], item["code"]) for item in taken["rejected"]] == [("red.png", "conflict")]
    assert counts(gateway, address) == {"total": 2, "queued": 2}
    assert len(gateway.images._images) == 2


def test_rejected_images_fail_alone_and_are_counted_once(gateway: Gateway) -> None:
    address = opened(gateway)
    photos = {"notes.txt": b"no image", "red.png": RED, "empty.png": b"", "large.png": RED + bytes(100_000)}
    for _ in range(2):
        taken = send(gateway, address, photos).get_json()
        assert [item["custom_id"] for item in taken["accepted"]] == ["red.png"]
        found = {item["custom_id"]: item["code"] for item in taken["rejected"]}
        assert found == {"notes.txt": "not_an_image", "empty.png": "empty_upload", "large.png": "upload_too_large"}
    assert counts(gateway, address) == {"total": 4, "queued": 1, "rejected": 3}
    rows = {row["custom_id"]: row for row in results(gateway, address)}
    assert rows.keys() == found.keys()
    assert rows["notes.txt"]["status"] == "failed"
    assert rows["notes.txt"]["error"]["code"] == "not_an_image"
    assert "pawqueue_refused_total" in gateway.client.get("/metrics").text


def test_a_full_queue_says_what_it_took_and_what_is_left() -> None:
    gateway = make_gateway(queue_max_jobs="40")
    address = opened(gateway)
    photos = {f"{n}.png": RED for n in range(60)}
    response = send(gateway, address, photos, "form")
    refused(response, 429, "queue_full")
    assert int(response.headers["Retry-After"]) >= 1
    body = response.get_json()
    assert len(body["accepted"]) == 40
    assert body["left"] == [f"{n}.png" for n in range(40, 60)]
    assert body["left_from"] == "40.png"
    assert counts(gateway, address) == {"total": 40, "queued": 40}
    assert len(gateway.images._images) == 40
    end(gateway, *ids(response))
    rest = send(gateway, address, {name: photos[name] for name in body["left"]}, "form")
    assert (rest.status_code, len(ids(rest))) == (202, 20)
    assert counts(gateway, address) == {"total": 60, "queued": 20, "succeeded": 40}


def test_of_an_archive_the_first_that_is_left_is_named() -> None:
    gateway = make_gateway(queue_max_jobs="10")
    response = send(gateway, opened(gateway), {f"{n}.png": RED for n in range(60)})
    refused(response, 429, "queue_full")
    assert (len(ids(response)), response.get_json()["left_from"]) == (10, "10.png")


def test_when_the_ledger_does_not_answer_all_is_left(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    address = opened(gateway)

    def fail(*_: Any) -> Any:
        raise UnavailableError("It is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.ledger, "submit", fail)
        response = send(gateway, address, {"red.png": RED, "notes.txt": b"x"})
    refused(response, 503, "unavailable")
    assert response.get_json()["left"] == ["red.png"]
    assert send(gateway, address, {"red.png": RED}).status_code == 202


def test_a_message_that_cannot_be_sent_is_sent_later(gateway: Gateway) -> None:
    address = opened(gateway)
    gateway.broken = UnavailableError("It is gone.")
    assert send(gateway, address, {"red.png": RED}).status_code == 202
    assert counts(gateway, address) == {"total": 1, "queued": 1}


def test_a_closed_submission_takes_no_more_and_finishes(gateway: Gateway) -> None:
    address = opened(gateway)
    (job_id,) = ids(send(gateway, address, {"red.png": RED}))
    for _ in range(2):
        assert gateway.client.post(f"{address}/close").get_json()["status"] == "closed"
    refused(send(gateway, address, {"blue.png": BLUE}), 409, "conflict")
    end(gateway, job_id)
    body = read(gateway, address)
    assert (body["status"], body["finished_at"] is not None) == ("finished", True)
    assert gateway.client.delete(address).get_json()["status"] == "finished"


def test_one_that_is_closed_while_it_is_sent_to_says_what_it_took(gateway: Gateway) -> None:
    address = opened(gateway)
    publish = gateway.publish

    def close_then_publish(queue: str, job_ids: Any) -> None:
        gateway.ledger.close_submission(address.rsplit("/", 1)[1], 60)
        publish(queue, job_ids)

    services = gateway.client.application.config["SERVICES"]
    object.__setattr__(services.intake, "publish", close_then_publish)
    response = send(gateway, address, {f"{n}.png": RED for n in range(40)})
    refused(response, 409, "conflict")
    assert (len(ids(response)), response.get_json()["left_from"]) == (32, "32.png")


def test_waiting_ends_when_it_finishes(gateway: Gateway) -> None:
    address = opened(gateway)
    (job_id,) = ids(send(gateway, address, {"red.png": RED}))
    gateway.client.post(f"{address}/close")
    ender = threading.Timer(0.05, end, (gateway, job_id))
    ender.start()
    response = gateway.client.get(address, headers={"Prefer": "wait=20"})
    ender.join()
    assert (response.get_json()["status"], response.headers["Preference-Applied"]) == ("finished", "wait=20")
    started = gateway.client.get(opened(gateway), headers={"Prefer": "wait=0.1"})
    assert started.get_json()["status"] == "open"


def test_canceling_ends_what_has_not_ended(gateway: Gateway) -> None:
    address = opened(gateway)
    job_ids = ids(send(gateway, address, {f"{n}.png": RED for n in range(20)}))
    end(gateway, job_ids[0])
    gateway.ledger.claim(job_ids[1:2], 10_000, 60)
    body = gateway.client.delete(address).get_json()
    assert body["status"] == "canceled"
    assert body["finished_at"]
    assert counts(gateway, address) == {"total": 20, "succeeded": 1, "canceled": 19}
    assert gateway.job(job_ids[1]).status is JobStatus.CANCELED
    refused(send(gateway, address, {"blue.png": BLUE}), 409, "conflict")
    assert gateway.client.delete(address).get_json()["status"] == "canceled"


def test_results_come_in_order_of_acceptance_also_while_it_runs(gateway: Gateway) -> None:
    address = opened(gateway)
    job_ids = ids(send(gateway, address, {f"{n}.png": RED for n in range(5)}))
    end(gateway, job_ids[3])
    gateway.end([job_ids[1]], JobResult(error=JobError("undecodable_image", "broken")))
    rows = results(gateway, address)
    assert [(row["n"], row["status"]) for row in rows] == [(2, "failed"), (4, "succeeded")]
    assert [row["n"] for row in results(gateway, address, "?after=2")] == [4]
    assert [row["n"] for row in results(gateway, address, "?status=queued&after=1")] == [3, 5]
    assert len(results(gateway, address, "?status=queued&status=failed")) == 4
    assert results(gateway, address, "?after=99") == []
    assert [row["n"] for row in results(gateway, address, "?limit=1")] == [2]
    assert [row["n"] for row in results(gateway, address, "?limit=9")] == [2, 4]
    for row in rows:
        ResultLine.model_validate(row, strict=True)


def test_results_as_csv_are_as_the_command_writes_them(gateway: Gateway) -> None:
    address = opened(gateway)
    job_ids = ids(send(gateway, address, {"=red.png": RED, 'a "b", c.png': RED, "notes.txt": b"x"}))
    end(gateway, *job_ids)
    assert CSV_COLUMNS == COLUMNS
    for response in (
        gateway.client.get(f"{address}/results?format=csv"),
        gateway.client.get(f"{address}/results", headers={"Accept": "text/csv"}),
    ):
        assert response.mimetype == "text/csv"
        rows = list(csv.DictReader(io.StringIO(response.text)))
        assert [row["file"] for row in rows] == ["'=red.png", 'a "b", c.png', "notes.txt"]
        assert (rows[0]["label"], rows[0]["confidence"], rows[0]["model"]) == ("cat", "0.75", "cats-dogs@1")
        assert (rows[2]["status"], rows[2]["error_code"]) == ("failed", "not_an_image")
    forced = gateway.client.get(f"{address}/results?format=ndjson", headers={"Accept": "text/csv"})
    assert forced.mimetype == "application/x-ndjson"


@pytest.mark.parametrize("query", ["after=-1", "after=x", "status=done", "format=xml", "after=99999999999999999999"])
def test_a_wish_for_results_that_does_not_fit_is_refused(gateway: Gateway, query: str) -> None:
    refused(gateway.client.get(f"{opened(gateway)}/results?{query}"), 400, "bad_request")


@pytest.mark.parametrize("submission_id", ["019abc12-3456-7890-abcd-ef0123456789", "nope", "%2e%2e"])
def test_unknown_submissions_are_not_found(refusing: Gateway, submission_id: str) -> None:
    address = f"/v1/submissions/{submission_id}"
    refused(refusing.client.get(address), 404, "not_found")
    refused(refusing.client.delete(address), 404, "not_found")
    refused(refusing.client.get(f"{address}/results"), 404, "not_found")
    refused(refusing.client.post(f"{address}/close"), 404, "not_found")
    refused(send(refusing, address, {"red.png": RED}), 404, "not_found")


def test_the_latest_are_listed(gateway: Gateway) -> None:
    addresses = [opened(gateway, name=str(n)) for n in range(3)]
    listed = gateway.client.get("/v1/submissions?limit=2").get_json()["submissions"]
    assert len(listed) == 2
    assert {one["urls"]["self"] for one in listed} <= set(addresses)
    refused(gateway.client.get("/v1/submissions?limit=0"), 400, "bad_request")


@pytest.mark.parametrize("deadline_s", [True, "60", 0, -1])
def test_a_deadline_is_a_number_above_zero(refusing: Gateway, deadline_s: object) -> None:
    refused(refusing.client.post("/v1/submissions", json={"deadline_s": deadline_s}), 400, "bad_request")


def test_a_deadline_is_that_of_each_job(gateway: Gateway) -> None:
    (job_id,) = ids(send(gateway, opened(gateway, deadline_s=2.5), {"red.png": RED}))
    job = gateway.job(job_id)
    assert job.deadline_ms == job.created_ms + 2500


@pytest.mark.parametrize("example", [OPEN_SUBMISSION, RUNNING_SUBMISSION, FINISHED_SUBMISSION, CANCELED_SUBMISSION])
def test_examples_fit_their_schema(example: dict[str, Any]) -> None:
    SubmissionObject.model_validate(example, strict=True)
    assert example["counts"]["total"] == sum(example["counts"].values()) - example["counts"]["total"]


def test_real_answers_fit_their_schema_and_have_no_other_member(gateway: Gateway) -> None:
    TakenObject.model_validate(TAKEN, strict=True)
    ResultLine.model_validate(RESULT_LINE, strict=True)
    address = opened(gateway)
    taken = send(gateway, address, {"red.png": RED, "notes.txt": b"x"}).get_json()
    TakenObject.model_validate(taken, strict=True)
    assert set(taken) == set(TakenObject.model_fields)
    body = read(gateway, address)
    SubmissionObject.model_validate(body, strict=True)
    assert set(body) == set(SubmissionObject.model_fields)
