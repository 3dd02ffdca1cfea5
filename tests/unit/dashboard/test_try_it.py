"""The "Try it" page with a fake gateway."""

import base64

import httpx

from contract.status import NO_WORKER, Problem
from dashboard.data.gateway import GatewayClient
from dashboard.pages.try_it import Entry, dump_entries, load_entries, service_states, submit, update
from tests.unit.dashboard.conftest import NOW, UP, FakeServer, snapshot, status


def image(name: str = "a.jpg") -> dict[str, str]:
    return {"key": name, "name": name, "contents": "data:image/jpeg;base64," + base64.b64encode(b"bytes").decode()}


def test_an_image_is_uploaded_with_the_viewers_api_key_and_polled_until_it_has_a_result() -> None:
    server = FakeServer()
    gateway = GatewayClient("http://gateway", server.transport)
    created = {"id": "1", "status": "queued", "created_at": "2026-01-01T00:00:00Z"}
    server.responses["/v1/jobs"] = httpx.Response(202, json=created)
    (entry,) = submit(gateway, [image("ä b.jpg")], "pq_secret")
    assert entry.is_pending
    request = server.requests[-1]
    assert (request.content, request.headers["Authorization"]) == (b"bytes", "Bearer pq_secret")
    assert request.url.params["file"] == "ä b.jpg"

    prediction = {"label": "cat", "probabilities": {"cat": 0.9, "dog": 0.1}, "familiarity": 0.3}
    finished = created | {"status": "succeeded", "finished_at": "2026-01-01T00:00:01.5Z", "prediction": prediction}
    server.responses["/v1/jobs/1"] = httpx.Response(200, json=finished)
    (entry,) = update(gateway, load_entries(dump_entries([entry])), "")
    assert (entry.status, entry.label, entry.latency_ms, entry.familiarity) == ("succeeded", "cat", 1500, 0.3)
    assert "Authorization" not in server.requests[-1].headers


def test_a_rejected_image_is_shown_with_the_error_of_the_api() -> None:
    server = FakeServer({"/v1/jobs": httpx.Response(415, json={"code": "not_an_image", "detail": "Send an image."})})
    (entry,) = submit(GatewayClient("http://gateway", server.transport), [image()], "")
    assert (entry.status, entry.problem) == ("not accepted", "not_an_image: Send an image.")


def test_a_job_stays_pending_while_the_gateway_is_down() -> None:
    server = FakeServer({"/v1/jobs/1": httpx.ConnectError("refused")})
    gateway = GatewayClient("http://gateway", server.transport)
    (after,) = update(gateway, [Entry("k", "a.jpg", job_id="1", status="running")], "")
    assert after.is_pending
    assert "The gateway does not respond" in after.problem


def test_an_invalid_upload_from_the_browser_is_not_sent() -> None:
    gateway = GatewayClient("http://gateway", FakeServer().transport)
    (entry,) = submit(gateway, [{**image(), "contents": "data:,%%%"}], "")
    assert entry.status == "not accepted"


def test_the_page_shows_whether_images_can_be_uploaded_and_predicted() -> None:
    assert service_states(snapshot()) == [("Gateway", "ready"), ("Model", "cats-dogs@1")]
    without_workers = snapshot(status=status(workers=(), problems=(NO_WORKER,)))
    assert service_states(without_workers) == [("Gateway", "ready"), ("Model", NO_WORKER.detail)]
    full = snapshot(status=status(problems=(Problem("ledger_full", "Redis is full."),)))
    assert service_states(full)[0] == ("Gateway", "not accepting uploads. Redis is full.")
    down = snapshot(gateway=UP.failed(NOW, "The gateway does not respond."))
    assert service_states(down)[0] == ("Gateway", "unavailable since 08:00 UTC. The gateway does not respond.")


def test_the_warnings_about_an_image_are_shown() -> None:
    job = {"id": "1", "status": "succeeded", "created_at": "2026-01-01T00:00:00Z", "warnings": ["sample_range_assumed"]}
    server = FakeServer({"/v1/jobs": httpx.Response(200, json=job)})
    (entry,) = submit(GatewayClient("http://gateway", server.transport), [image()], "")
    (entry,) = load_entries(dump_entries([entry]))
    assert list(entry.warnings) == ["sample_range_assumed"]
