"""`DELETE ?purge=true`: jobs and submissions are removed with their images."""

import logging
import threading
import time
from typing import Any

import pytest
from werkzeug.test import TestResponse

from contract.access import Scope
from contract.errors import UnavailableError
from contract.job import new_job_id
from contract.ledger import keys
from contract.ledger.reviews import KeptImage, ReviewLimits
from contract.ledger.types import Sweep
from contract.queues import INTERACTIVE
from tests.support.images import draw, stored_images
from tests.support.ledger import claim_jobs
from tests.unit.gateway.conftest import Gateway, MakeGateway, assert_problem, upload
from tests.unit.gateway.test_auth import key, submit
from tests.unit.gateway.test_submissions import RED, ids, open_submission, read, results, send


def purge(gateway: Gateway, url: str, headers: dict[str, str] | None = None) -> TestResponse:
    return gateway.client.delete(f"{url}?purge=true", headers=headers)


def dead_job(gateway: Gateway) -> str:
    job_id = str(upload(gateway, draw(), "killer.png").get_json()["id"])
    gateway.ledger.begin([claim for claim in claim_jobs(gateway.ledger, [job_id], 1, 60, 1000) if claim])
    gateway.ledger.recover(Sweep(INTERACTIVE, max_attempts=1, ttl_s=60))
    return job_id


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_a_purged_job_and_its_image_are_gone(gateway: Gateway, state: str) -> None:
    job_id = upload(gateway, draw(), "secret.png", **{"Idempotency-Key": "k"}).get_json()["id"]
    image = gateway.job(job_id).image
    if state == "running":
        claim_jobs(gateway.ledger, [job_id], 10_000, 60)
    if state == "succeeded":
        gateway.finish([job_id])
        gateway.images.delete([image])
    url = f"/v1/jobs/{job_id}"
    response = purge(gateway, url)
    assert (response.status_code, response.data) == (204, b"")
    assert gateway.image_count() == 0
    assert gateway.ledger.discarded(10) == []
    assert_problem(gateway.client.get(url), 404, "not_found")
    assert "was purged" in assert_problem(purge(gateway, url), 404, "not_found")["detail"]
    again = upload(gateway, draw(color=(1, 2, 3)), **{"Idempotency-Key": "k"})
    assert (again.status_code, again.get_json()["id"] != job_id) == (202, True)


def keep_image(gateway: Gateway, job_id: str) -> str:
    """Keep the image of a finished job for review, and let the record expire; returns the reference of the copy."""
    job, ref = gateway.job(job_id), gateway.images.put(b"copy")
    kept = KeptImage(job_id, "low_confidence", ref, 4, "cat", 0.5, "cats-dogs", "1", 0, job.owner)
    assert gateway.ledger.reviews.keep(kept, job.fence, ReviewLimits(60, 10, 1000))
    gateway.services.client.delete(keys.job(job_id))
    return ref


def test_an_image_kept_for_review_is_purged_even_if_the_record_of_its_job_has_expired(
    make_gateway: MakeGateway,
) -> None:
    gateway = make_gateway(access="required")
    gateway.finish_new_jobs()
    ada, eve = key(gateway), key(gateway)
    job_id = submit(gateway, ada).get_json()["id"]
    ref = keep_image(gateway, job_id)
    assert_problem(purge(gateway, f"/v1/jobs/{job_id}", eve), 404, "not_found")
    assert gateway.images.get([ref]) == [b"copy"]
    assert purge(gateway, f"/v1/jobs/{job_id}", ada).status_code == 204
    assert gateway.images.get([ref]) == [None]
    assert_problem(purge(gateway, f"/v1/jobs/{job_id}", ada), 404, "not_found")


def test_a_delete_without_purge_remains_a_cancel(gateway: Gateway) -> None:
    for query in ("", "?purge=false"):
        job_id = upload(gateway, draw()).get_json()["id"]
        assert gateway.client.delete(f"/v1/jobs/{job_id}{query}").get_json()["status"] == "canceled"
        assert gateway.client.get(f"/v1/jobs/{job_id}").get_json()["status"] == "canceled"
    url = open_submission(gateway)
    assert gateway.client.delete(url).get_json()["status"] == "canceled"
    assert read(gateway, url)["status"] == "canceled"


def test_an_invalid_purge_parameter_changes_nothing(gateway: Gateway) -> None:
    url = upload(gateway, draw()).headers["Location"]
    for value in ("maybe", "", "2"):
        assert_problem(gateway.client.delete(f"{url}?purge={value}"), 400, "bad_request")
    assert gateway.client.get(url).get_json()["status"] == "queued"


def test_a_purged_submission_and_its_images_are_gone(gateway: Gateway) -> None:
    url, other = open_submission(gateway, name="secret"), open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(3)} | {"notes.txt": b"x"}))
    gateway.finish(job_ids[:1])
    assert purge(gateway, url).status_code == 204
    for path in (url, f"{url}/results", *(f"/v1/jobs/{job_id}" for job_id in job_ids)):
        assert_problem(gateway.client.get(path), 404, "not_found")
    listed = gateway.client.get("/v1/submissions").get_json()["submissions"]
    assert [submission["urls"]["self"] for submission in listed] == [other]
    assert stored_images(gateway.image_folder) == [RED]
    assert_problem(purge(gateway, url), 404, "not_found")


def test_the_results_of_a_submission_omit_a_purged_job(gateway: Gateway) -> None:
    url = open_submission(gateway)
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(3)}))
    gateway.finish(job_ids)
    purge(gateway, f"/v1/jobs/{job_ids[1]}")
    assert [row["n"] for row in results(gateway, url)] == [1, 3]
    assert read(gateway, url)["counts"]["succeeded"] == 3


def test_a_request_that_waits_for_a_purged_job_or_submission_gets_a_404_immediately(gateway: Gateway) -> None:
    job_url, url = upload(gateway, draw()).headers["Location"], open_submission(gateway)
    for waited in (job_url, url):
        purging = threading.Timer(0.05, purge, (gateway, waited))
        purging.start()
        started_s = time.monotonic()
        assert_problem(gateway.client.get(waited, headers={"Prefer": "wait=20"}), 404, "not_found")
        assert time.monotonic() - started_s < 15
        purging.join()


def test_images_that_the_store_could_not_delete_stay_marked_for_deletion(gateway: Gateway) -> None:
    url = upload(gateway, draw()).headers["Location"]
    image = gateway.job(url.rsplit("/", 1)[-1]).image
    (segment,) = gateway.image_folder.iterdir()
    aside = segment.rename(segment.with_suffix(".aside"))
    segment.mkdir()  # cannot be opened like a file
    assert purge(gateway, url).status_code == 204
    assert gateway.ledger.discarded(10) == [image]
    with pytest.raises(UnavailableError):
        gateway.services.purger.delete_discarded(10)
    assert gateway.ledger.discarded(10) == [image]
    segment.rmdir()
    aside.rename(segment)
    gateway.services.purger.delete_discarded(10)
    assert (gateway.ledger.discarded(10), gateway.image_count()) == ([], 0)


def test_an_interrupted_purge_of_a_submission_is_completed_by_the_next_request(gateway: Gateway) -> None:
    url = open_submission(gateway)
    submission_id = url.rsplit("/", 1)[-1]
    job_ids = ids(send(gateway, url, {f"{n}.png": RED for n in range(3)}))
    gateway.ledger.purge_submission(submission_id, 1, 60)
    assert_problem(gateway.client.get(url), 404, "not_found")
    assert_problem(gateway.client.put(url, json={}), 503, "unavailable")
    assert purge(gateway, url).status_code == 204
    assert gateway.ledger.get(job_ids) == [None] * 3
    assert gateway.client.put(url, json={}).status_code == 201


def test_a_purge_of_a_dead_job_removes_it_from_the_list_and_its_retry(gateway: Gateway) -> None:
    listed, retried = dead_job(gateway), dead_job(gateway)
    retry_id = gateway.client.post(f"/v1/dead/{retried}/retry").get_json()["id"]
    for job_id in (listed, retried):
        assert purge(gateway, f"/v1/jobs/{job_id}").status_code == 204
    assert gateway.client.get("/v1/dead").get_json() == {"jobs": []}
    assert gateway.ledger.get([listed, retried, retry_id]) == [None] * 3
    assert gateway.image_count() == 0


def test_a_retry_of_a_job_that_is_purged_meanwhile_leaves_nothing(gateway: Gateway) -> None:
    job_id = dead_job(gateway)
    gateway.ledger.hooks["remove_dead"] = lambda: gateway.ledger.purge([job_id], 60)
    assert_problem(gateway.client.post(f"/v1/dead/{job_id}/retry"), 404, "not_found")
    ((_, (retry_id,)),) = gateway.new_jobs[1:]
    assert gateway.ledger.get([retry_id]) == [None]


@pytest.mark.parametrize("kind", ["job", "submission"])
def test_only_the_owner_and_an_admin_may_purge(make_gateway: MakeGateway, kind: str) -> None:
    gateway = make_gateway(access="required")
    ada, bob = key(gateway), key(gateway)
    admin, only_admin = key(gateway, Scope.SUBMIT, Scope.ADMIN), key(gateway, Scope.ADMIN)
    reader = key(gateway, Scope.READ)

    def made() -> str:
        if kind == "job":
            return str(submit(gateway, ada).headers["Location"])
        return str(gateway.client.post("/v1/submissions", json={}, headers=ada).headers["Location"])

    url = made()
    assert_problem(purge(gateway, url, bob), 404, "not_found")
    for headers in (reader, only_admin):
        assert_problem(purge(gateway, url, headers), 403, "forbidden")
    assert_problem(gateway.client.delete(url, headers=admin), 404, "not_found")  # canceling is for the owner
    assert gateway.client.get(url, headers=ada).status_code == 200
    assert purge(gateway, url, ada).status_code == 204
    assert purge(gateway, made(), admin).status_code == 204
    assert_problem(purge(gateway, f"/v1/{kind}s/{new_job_id()}", admin), 404, "not_found")


def test_a_purge_is_logged_with_id_owner_and_key_but_without_content(
    make_gateway: MakeGateway, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = make_gateway(access="required")
    ada, admin = key(gateway), key(gateway, Scope.SUBMIT, Scope.ADMIN)
    job_url = submit(gateway, ada).headers["Location"]
    url = gateway.client.post("/v1/submissions", json={"name": "secret"}, headers=ada).headers["Location"]
    owner, by = (headers["X-API-Key"].split("_")[1] for headers in (ada, admin))
    with caplog.at_level(logging.INFO):
        purge(gateway, job_url, ada)
        purge(gateway, url, admin)
    lines: list[Any] = [record.msg for record in caplog.records if record.name == "contract.purge"]
    wanted = ("event", "action", "owner", "by")
    assert [[line[name] for name in wanted] for line in lines] == [
        ["Purged a job", "purged", owner, owner],
        ["Purged a submission", "purged", owner, by],
    ]
    assert [line.get("job_id") or line["submission_id"] for line in lines] == [
        path.rsplit("/", 1)[-1] for path in (job_url, url)
    ]
    assert "secret" not in str(lines)
