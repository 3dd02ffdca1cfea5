"""The "Try it" page with a fake gateway."""

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx

from contract.status import NO_WORKER, Problem
from dashboard.data.gateway import GatewayClient
from dashboard.pages.try_it import dump_entries, follow, load_entries, service_states, submit
from tests.unit.dashboard.conftest import NOW, UP, FakeServer, snapshot, status


def image(name: str = "a.jpg") -> dict[str, str]:
    return {"key": name, "name": name, "contents": "data:image/jpeg;base64," + base64.b64encode(b"bytes").decode()}


def stream(*jobs: dict[str, object]) -> httpx.Response:
    blocks = ["retry: 1000\n\n", ":\n\n", *(f"event: x\nid: 1\ndata: {json.dumps(job)}\n\n" for job in jobs)]
    return httpx.Response(200, text="".join(blocks))


def events(texts: Iterator[str]) -> tuple[list[dict[str, Any]], bool]:
    """The entries of a stream, and whether it has ended."""
    blocks = list(texts)
    data = [json.loads(block.removeprefix("data: ")) for block in blocks if block.startswith("data: ")]
    return data, blocks[-1].startswith("event: end\n")


def test_an_image_is_uploaded_with_the_viewers_api_key_and_followed_until_it_has_a_result() -> None:
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
    server.responses["/v1/jobs/1/events"] = stream(created, finished)
    found, has_ended = events(follow(gateway, ["1"], "pq_secret"))
    assert [entry["status"] for entry in found] == ["queued", "succeeded"]
    assert has_ended
    last = found[-1]
    assert (last["job_id"], last["label"], last["latency_ms"], last["familiarity"]) == ("1", "cat", 1500, 0.3)
    assert not last.keys() & {"key", "name"}, "the browser has them"
    assert server.requests[-1].headers["Authorization"] == "Bearer pq_secret"


def test_several_jobs_are_followed_in_one_stream() -> None:
    jobs = [{"id": name, "status": "succeeded", "created_at": "2026-01-01T00:00:00Z"} for name in ("1", "2", "3")]
    server = FakeServer({f"/v1/jobs/{job['id']}/events": stream(job) for job in jobs[:2]})
    server.responses["/v1/jobs/3/events"] = httpx.Response(404, json={"code": "not_found", "detail": "Purged."})
    found, has_ended = events(follow(GatewayClient("http://gateway", server.transport), ["1", "2", "3"], ""))
    states = {entry["job_id"]: (entry["status"], entry["problem"]) for entry in found}
    assert states == {"1": ("succeeded", ""), "2": ("succeeded", ""), "3": ("not accepted", "not_found: Purged.")}
    assert has_ended


def test_a_stream_of_the_gateway_that_ends_early_lets_the_browser_reconnect() -> None:
    server = FakeServer({"/v1/jobs/1/events": stream({"id": "1", "status": "running"})})
    found, has_ended = events(follow(GatewayClient("http://gateway", server.transport), ["1"], ""))
    assert [entry["status"] for entry in found] == ["running"]
    assert not has_ended


def test_streams_end_when_the_dashboard_stops() -> None:
    stopping = threading.Event()

    def wait(_request: httpx.Request) -> httpx.Response:
        stopping.wait(60)
        return httpx.Response(503, json={})

    gateway = GatewayClient("http://gateway", httpx.MockTransport(wait))
    texts = follow(gateway, ["1"], "")
    assert next(texts).startswith("retry: ")
    timer = threading.Timer(0.2, gateway.end_streams)
    timer.start()
    assert list(texts) == []
    stopping.set()
    timer.join()


def test_a_rejected_image_is_shown_with_the_error_of_the_api() -> None:
    server = FakeServer({"/v1/jobs": httpx.Response(415, json={"code": "not_an_image", "detail": "Send an image."})})
    (entry,) = submit(GatewayClient("http://gateway", server.transport), [image()], "")
    assert (entry.status, entry.problem) == ("not accepted", "not_an_image: Send an image.")


def test_a_job_stays_pending_while_the_gateway_is_down() -> None:
    server = FakeServer({"/v1/jobs/1/events": httpx.ConnectError("refused")})
    (found,), has_ended = events(follow(GatewayClient("http://gateway", server.transport), ["1"], ""))
    assert found["status"] == "queued"
    assert "The gateway does not respond" in found["problem"]
    assert not has_ended


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
