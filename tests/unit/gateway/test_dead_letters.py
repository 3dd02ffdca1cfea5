"""The dead-letter list over HTTP."""

from contract.job import Job, JobStatus, new_job_id
from contract.ledger.types import Sweep
from contract.queues import INTERACTIVE
from tests.support.images import draw
from tests.support.ledger import claim_jobs
from tests.unit.gateway.conftest import Gateway, assert_problem, unavailable, upload


def dead_job(gateway: Gateway) -> Job:
    """A job whose worker died in its only attempt."""
    job_id = upload(gateway, draw(), "killer.png").get_json()["id"]
    gateway.ledger.begin([claim for claim in claim_jobs(gateway.ledger, [job_id], 1, 60, 1000) if claim])
    gateway.ledger.recover(Sweep(INTERACTIVE, max_attempts=1, ttl_s=60))
    gateway.new_jobs.clear()
    return gateway.job(job_id)


def test_a_dead_job_is_listed_with_its_error(gateway: Gateway) -> None:
    assert gateway.client.get("/v1/dead").get_json() == {"jobs": []}
    job = dead_job(gateway)
    (listed,) = gateway.client.get("/v1/dead").get_json()["jobs"]
    assert (listed["id"], listed["file"], listed["error"]["code"]) == (job.id, "killer.png", "worker_lost")
    assert gateway.client.get(f"/v1/dead/{job.id}").get_json() == listed
    assert "pawqueue_dead_jobs 1.0" in gateway.metrics()


def test_a_retry_creates_a_new_job_with_the_same_image(gateway: Gateway) -> None:
    job = dead_job(gateway)
    response = gateway.client.post(f"/v1/dead/{job.id}/retry")
    new = gateway.job(response.get_json()["id"])
    assert (response.status_code, response.headers["Location"]) == (202, f"/v1/jobs/{new.id}")
    assert (new.file, new.attempts, gateway.image_of(new)) == ("killer.png", 0, draw())
    assert gateway.new_jobs == [(INTERACTIVE, [new.id])]
    assert gateway.job(job.id).status is JobStatus.FAILED
    assert gateway.client.get("/v1/dead").get_json() == {"jobs": []}
    assert_problem(gateway.client.post(f"/v1/dead/{job.id}/retry"), 404, "not_found")


def test_a_job_stays_on_the_list_if_its_retry_is_refused(gateway: Gateway) -> None:
    job = dead_job(gateway)
    gateway.ledger.hooks["submit"] = unavailable
    assert_problem(gateway.client.post(f"/v1/dead/{job.id}/retry"), 503, "unavailable")
    gateway.ledger.hooks.clear()
    assert gateway.client.post(f"/v1/dead/{job.id}/retry").status_code == 202


def test_an_interrupted_retry_can_be_repeated_without_a_second_job(gateway: Gateway) -> None:
    job = dead_job(gateway)
    gateway.ledger.hooks["remove_dead"] = unavailable
    assert_problem(gateway.client.post(f"/v1/dead/{job.id}/retry"), 503, "unavailable")
    gateway.ledger.hooks.clear()
    new_id = gateway.client.post(f"/v1/dead/{job.id}/retry").get_json()["id"]
    assert gateway.new_jobs == [(INTERACTIVE, [new_id])]
    assert gateway.client.get("/v1/dead").get_json() == {"jobs": []}


def test_dropping_a_job_removes_it_from_the_list_and_deletes_its_image(gateway: Gateway) -> None:
    job = dead_job(gateway)
    assert gateway.client.delete(f"/v1/dead/{job.id}").status_code == 200
    assert gateway.client.get("/v1/dead").get_json() == {"jobs": []}
    assert len(gateway.ledger.discarded(10)) == 1
    assert gateway.client.get(f"/v1/jobs/{job.id}").get_json()["status"] == "failed"


def test_jobs_that_are_not_on_the_list_are_not_found(gateway: Gateway) -> None:
    alive = upload(gateway, draw()).get_json()["id"]
    for job_id in (alive, new_job_id(), "nope"):
        assert_problem(gateway.client.get(f"/v1/dead/{job_id}"), 404, "not_found")
        assert_problem(gateway.client.delete(f"/v1/dead/{job_id}"), 404, "not_found")
