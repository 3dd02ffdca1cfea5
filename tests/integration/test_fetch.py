"""Images at an address: a worker fetches them, with retries, and only once for each job."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chaos.cluster import Cluster
from tests.support.images import draw
from tests.support.services import Stack, light_worker, running_stack, serves_model, wait_until
from tests.support.web import Site, serving_site

SETTINGS = {"fetch_allow": "127.0.0.1"}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serving_site() as found:
        yield found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("fetch"), light_worker(), **SETTINGS) as found:
        yield found


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90, headers={"Prefer": "wait=60"}) as client:
        yield client


def test_an_image_is_fetched_and_classified(http: httpx.Client, site: Site, stack: Stack) -> None:
    job = http.post("/v1/jobs", json={"url": site.add("/cat.png", draw()) + "?signature=secret"}).json()
    assert (job["status"], job["size_bytes"], job["file"]) == ("succeeded", len(draw()), "cat.png")
    assert "secret" not in "".join(path.read_text() for path in stack.folder.glob("*.log"))


def test_a_server_that_fails_for_a_moment_is_asked_again(http: httpx.Client, site: Site) -> None:
    site.add("/late.png", status=503)
    url = site.add("/late.png", draw())
    assert http.post("/v1/jobs", json={"url": url}).json()["status"] == "succeeded"
    assert site.requests["/late.png"] == 2


def test_a_missing_image_fails_its_job_with_the_reason(http: httpx.Client, site: Site) -> None:
    job = http.post("/v1/jobs", json={"url": site.url("/missing.png")}).json()
    assert (job["status"], job["error"]["code"]) == ("failed", "fetch_failed")
    assert "status 404" in job["error"]["detail"]
    assert site.requests["/missing.png"] == 1


def test_a_server_cannot_stop_the_threads_that_fetch(http: httpx.Client, site: Site) -> None:
    for number in range(9):  # one more than there are threads
        url = site.add(f"/{number}", status=302, Location="http://[x")
        assert http.post("/v1/jobs", json={"url": url}).json()["error"]["code"] == "fetch_failed"
    assert http.post("/v1/jobs", json={"url": site.add("/then.png", draw())}).json()["status"] == "succeeded"


def test_what_is_not_an_image_fails_its_job(http: httpx.Client, site: Site) -> None:
    job = http.post("/v1/jobs", json={"url": site.add("/page.html", b"<html></html>")}).json()
    assert (job["status"], job["error"]["code"]) == ("failed", "undecodable_image")


def test_a_submission_of_addresses_finishes(http: httpx.Client, site: Site) -> None:
    site.add("/many.png", draw())
    submission = http.post("/v1/submissions", json={}).json()
    path = f"/v1/submissions/{submission['id']}"
    images = [{"url": site.url(f"/many.png?number={number}"), "custom_id": str(number)} for number in range(100)]
    assert len(http.post(f"{path}/jobs", json={"images": images}).json()["accepted"]) == 100
    http.post(f"{path}/close")
    assert http.get(path).json()["counts"]["succeeded"] == 100


def test_a_job_whose_worker_died_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    settings = {"PAWQUEUE_LEASE_S": "1", "PAWQUEUE_SWEEP_S": "0.2", "PAWQUEUE_FETCH_ALLOW": "127.0.0.1"}
    with Cluster(tmp_path, workers=1, settings=settings, points=["in_predict"], light=True) as cluster:
        wait_until(lambda: serves_model(cluster.url), "a model to be served")
        with httpx.Client(base_url=cluster.url, timeout=90, headers={"Prefer": "wait=60"}) as http:
            job = http.post("/v1/jobs", json={"url": site.add("/once.png", draw())}).json()
        assert (job["status"], job["attempts"]) == ("succeeded", 2)
        assert cluster.faults_reached == ["in_predict"]
        assert site.requests["/once.png"] == 1
