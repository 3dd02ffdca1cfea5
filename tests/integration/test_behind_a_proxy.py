"""The gateway and the client behind a real nginx that publishes the gateway under a path."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from pawqueue import Pawqueue, RefusedError
from tests.support.images import draw
from tests.support.nginx import running_nginx
from tests.support.services import Gateway, Stack

_IMAGE = draw((60, 40), form="JPEG")
_UPLOAD_MAX_BYTES = 100_000
_LIMITS = "listen LISTEN; client_max_body_size 1m; merge_slashes off;"
_FORWARDED = (
    "proxy_set_header X-Forwarded-Prefix /cats; proxy_set_header X-Forwarded-Proto https; "
    "proxy_set_header X-Forwarded-Host paws.example;"
)
#: How nginx passes requests on. The first two gateways have a prefix; the third one learns it from a header.
_LOCATIONS = {
    "removes the prefix": ("/paw", "proxy_pass {own}/;"),
    "keeps the prefix": ("/paw", "proxy_pass {own};"),
    "names the prefix": ("/cats", f"proxy_pass {{other}}/; {_FORWARDED}"),
}
#: Headers by which a client could pretend to be a proxy; the last one is gunicorn's own.
_SPOOFED = {
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-For": "192.0.2.1",
    "SCRIPT_NAME": "/evil",
}


@pytest.fixture(scope="module")
def gateway(stack: Stack) -> Iterator[Gateway]:
    """A gateway with a prefix."""
    with stack.another_gateway(gateway_prefix="/paw", upload_max_bytes=_UPLOAD_MAX_BYTES) as started:
        yield started


@pytest.fixture(scope="module")
def trusting(stack: Stack) -> Iterator[Gateway]:
    """A gateway that trusts proxies on this machine."""
    with stack.another_gateway(trusted_proxies="127.0.0.0/8") as started:
        yield started


@pytest.fixture(scope="module")
def urls(gateway: Gateway, trusting: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The URL of a gateway at each proxy of `_LOCATIONS`."""
    servers = [
        f"server {{ {_LIMITS} location {path}/ {{ {text.format(own=gateway.url, other=trusting.url)} }} }}"
        for path, text in _LOCATIONS.values()
    ]
    with running_nginx(tmp_path_factory.mktemp("nginx"), *servers) as proxies:
        yield {
            name: f"http://{proxy}{path}" for (name, (path, _)), proxy in zip(_LOCATIONS.items(), proxies, strict=True)
        }


@pytest.fixture(params=_LOCATIONS)
def url(request: pytest.FixtureRequest, urls: dict[str, str]) -> str:
    return urls[request.param]


def test_every_url_that_the_gateway_writes_leads_back_through_the_proxy(url: str) -> None:
    prefix = urlsplit(url).path
    with httpx.Client(timeout=60) as http:
        accepted = http.post(f"{url}/v1/jobs", content=_IMAGE, headers={"Prefer": "wait=30"})
        job = accepted.json()
        assert accepted.headers["Location"] == job["urls"]["self"] == f"{prefix}/v1/jobs/{job['id']}"
        assert http.get(urljoin(url, job["urls"]["self"])).json()["status"] == "succeeded"

        opened = http.post(f"{url}/v1/submissions", json={})
        links = opened.json()["urls"]
        assert opened.headers["Location"] == links["self"]
        assert http.post(urljoin(url, links["jobs"]), files={"file": ("x.jpg", _IMAGE)}).status_code == 202
        assert http.post(urljoin(url, links["close"])).json()["urls"] == links
        finished = http.get(urljoin(url, links["self"]), headers={"Prefer": "wait=30"}).json()
        assert (finished["status"], finished["urls"]) == ("finished", links)
        assert http.get(urljoin(url, links["results"])).json()["status"] == "succeeded"

        endpoints = http.get(f"{url}/").json()["endpoints"]
        assert http.get(urljoin(url, endpoints["health"])).json()["status"] == "healthy"
        assert http.get(urljoin(url, endpoints["docs"])).status_code == 200
        form = {"file": ("x.jpg", _IMAGE, "image/jpeg")}
        assert "class" in http.post(urljoin(url, endpoints["predict"]), files=form).json()
        (server,) = http.get(f"{url}/openapi.json").json()["servers"]
        assert http.get(f"{urljoin(url, server['url'])}/healthz").json() == {"status": "alive"}
        for page in ("nowhere", "docs/nowhere"):
            assert f"`{prefix}/" in http.get(f"{url}/{page}").json()["detail"]


def test_events_pass_the_proxy_as_they_happen(url: str) -> None:
    with httpx.Client(timeout=60) as http:
        path = urljoin(url, http.post(f"{url}/v1/submissions", json={}).json()["urls"]["self"])
        with http.stream("GET", f"{path}/events") as response:
            data = (json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: "))
            first = next(data)  # the stream goes on, so it arrives only if the proxy passes it on at once
            assert (first["status"], first["urls"]["self"]) == ("open", urlsplit(path).path)
            httpx.post(f"{path}/close")
            while (last := next(data))["status"] != "finished":
                pass
            assert last == httpx.get(path).json()
            assert list(data) == []


def test_the_client_works_with_a_url_that_has_a_path(url: str, tmp_path: Path) -> None:
    for name in ("red", "blue"):
        (tmp_path / f"{name}.png").write_bytes(draw(color=name))
    with Pawqueue(f"{url}/", timeout_s=60) as service:
        job = service.predict(tmp_path / "red.png")
        assert service.find(job.id) == service.get(job.id) == service.cancel(job.id) == job
        rows = list(service.submit_folder(tmp_path, name="folder", timeout_s=60))
        assert {row.status for row in rows} == {"succeeded"}
        submission = service.submissions(1)[0]
        assert service.wait(service.submission(submission.id)).name == "folder"
        assert len(list(service.results(submission))) == 2
        assert service.dead_jobs() == []
        assert service.service_status().workers


def test_the_client_reports_an_image_that_exceeds_the_limit_of_the_proxy(urls: dict[str, str]) -> None:
    with Pawqueue(urls["removes the prefix"]) as service, pytest.raises(RefusedError, match="proxy") as caught:
        service.predict(bytes(2_000_000))
    assert caught.value.status == 413


def test_a_refusal_of_a_large_upload_is_never_lost_in_the_proxy(urls: dict[str, str]) -> None:
    url = f"{urls['keeps the prefix']}/v1/jobs"
    responses = [httpx.post(url, content=bytes(1_000_000)) for _ in range(20)]
    assert {(response.status_code, response.json()["code"]) for response in responses} == {(413, "upload_too_large")}


def test_redirects_name_the_host_and_scheme_of_the_client(urls: dict[str, str]) -> None:
    response = httpx.get(f"{urls['names the prefix']}/v1//status")
    assert response.headers["Location"] == "https://paws.example/cats/v1/status"


def test_health_checks_of_the_gateway_need_no_prefix(gateway: Gateway) -> None:
    for path in ("/healthz", "/readyz", "/paw/healthz"):
        assert httpx.get(f"{gateway.url}{path}").status_code == 200


def test_headers_from_an_untrusted_client_change_nothing(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url, headers=_SPOOFED) as http:
        job = http.post("/v1/jobs", content=_IMAGE)
        assert job.headers["Location"] == f"/v1/jobs/{job.json()['id']}"
        assert http.get("/openapi.json").json()["servers"] == [{"url": "/"}]
        assert http.get("/v1//status").headers["Location"] == f"{stack.url}/v1/status"
