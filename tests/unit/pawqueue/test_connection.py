"""Retries, deadlines and errors of a connection."""

import gc
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from pawqueue.client.connection import Call, Connection
from pawqueue.client.deadline import Deadline, retry_pause_s
from pawqueue.client.errors import ClientError, RefusedError, TimedOutError, UnreachableError
from tests.support.services import wait_until
from tests.unit.pawqueue.service import URL, Script, problem

GET = Call("GET", "/v1/jobs/x")
OK = httpx.Response(200, json={})


def connect(*steps: httpx.Response | Exception) -> tuple[Connection, Script]:
    script = Script(*steps)
    return Connection(URL, "secret", script), script


@pytest.mark.parametrize("url", ["http://gateway.localhost/paw", "http://gateway.localhost/paw/"])
def test_a_url_may_have_a_path(url: str) -> None:
    script = Script(OK)
    Connection(url, transport=script).send(GET, Deadline(60))
    assert str(script.requests[0].url) == "http://gateway.localhost/paw/v1/jobs/x"


@pytest.mark.parametrize("url", ["http://gateway.localhost/paw?x=1", "http://gateway.localhost/#jobs"])
def test_a_url_with_a_query_or_fragment_is_rejected(url: str) -> None:
    with pytest.raises(ClientError, match="Invalid gateway address"):
        Connection(url)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_refused_request_is_retried_after_the_time_in_retry_after(status: int) -> None:
    connection, script = connect(problem(status, "queue_full", Retry_After="1"), OK)
    started_s = time.monotonic()
    assert connection.send(GET, Deadline(60)).status_code == 200
    assert len(script.requests) == 2
    assert 1 <= time.monotonic() - started_s < 5


def test_a_retry_after_beyond_the_deadline_fails_immediately() -> None:
    connection, script = connect(problem(503, "unavailable", Retry_After="60"))
    with pytest.raises(RefusedError, match="unavailable") as caught:
        connection.send(GET, Deadline(30))
    assert len(script.requests) == 1
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 60)


def test_a_lost_connection_is_retried_until_the_deadline() -> None:
    connection, script = connect(httpx.ConnectError("Connection refused"))
    started_s = time.monotonic()
    with pytest.raises(UnreachableError, match=r"Cannot reach http://gateway\.localhost \(Connection refused\)"):
        connection.send(GET, Deadline(1))
    assert 2 <= len(script.requests) <= 4
    assert time.monotonic() - started_s < 1.5


def test_a_slow_response_raises_a_timeout_error() -> None:
    connection, _ = connect(httpx.ReadTimeout("slow"))
    with pytest.raises(TimedOutError, match="did not respond in time"):
        connection.send(GET, Deadline(0.1))


@pytest.mark.parametrize(("status", "code"), [(400, "no_file"), (404, "not_found"), (413, "upload_too_large")])
def test_a_rejection_is_not_retried_and_keeps_the_problem_details(status: int, code: str) -> None:
    connection, script = connect(problem(status, code, "Send less."))
    with pytest.raises(RefusedError, match="Send less") as caught:
        connection.send(GET, Deadline(5))
    assert (caught.value.status, caught.value.code, caught.value.detail) == (status, code, "Send less.")
    assert (len(script.requests), caught.value.retryable) == (1, False)


@pytest.mark.parametrize(
    ("status", "server", "expected"),
    [
        (
            413,
            "nginx/1.24.0",
            "A proxy in front of the gateway (nginx) refused a request of 3.2 MB. Raise client_max_body_size there",
        ),
        (413, "cloudflare", "(cloudflare) refused a request of 3.2 MB. Raise its limit for request bodies there"),
        (413, "", "A proxy in front of the gateway refused a request of 3.2 MB."),
        (502, "nginx", "(nginx) cannot reach the gateway. Check that the gateway runs, and its address in the proxy."),
        (503, "", "A proxy in front of the gateway cannot reach the gateway."),
        (504, "nginx", "(nginx) stopped waiting for the gateway's response. Raise proxy_read_timeout there."),
        (504, "Caddy", "(Caddy) stopped waiting for the gateway's response. Raise its timeout there."),
        (418, "", "The server returned I'm a teapot without problem details; it may be a proxy."),
    ],
)
def test_the_error_of_a_proxy_names_the_proxy_and_what_to_change_there(status: int, server: str, expected: str) -> None:
    connection, _ = connect(
        httpx.Response(status, text="<html>", headers={"content-type": "text/html", "server": server})
    )
    with pytest.raises(RefusedError) as caught:
        connection.send(Call("POST", "/v1/jobs", body=bytes(3_200_000)), Deadline(0))
    assert expected in caught.value.detail
    assert caught.value.code == f"http_{status}"


@pytest.mark.parametrize("body", ["[]", "{}", "null", "<html>"])
def test_an_unexpected_response_body_is_reported_as_not_from_a_gateway(body: str) -> None:
    connection, _ = connect(httpx.Response(200, text=body))
    with pytest.raises(UnreachableError, match="is not a Pawqueue gateway"):
        connection.fetch(GET, Deadline(5), lambda values: values["id"])


def test_a_redirect_is_not_followed() -> None:
    connection, _ = connect(httpx.Response(301, headers={"location": "https://elsewhere"}))
    with pytest.raises(UnreachableError, match="redirects elsewhere"):
        connection.send(GET, Deadline(5))


def test_a_request_contains_api_key_wait_query_and_body() -> None:
    connection, script = connect(OK)
    connection.send(Call("POST", "/v1/jobs", {"file": "ä b/=&.jpg"}, b"abc", wait_s=9), Deadline(30))
    (request,) = script.requests
    assert request.url.params["file"] == "ä b/=&.jpg"
    assert request.content == b"abc"
    assert (request.headers["authorization"], request.headers["prefer"]) == ("Bearer secret", "wait=9")
    assert (request.headers["content-length"], request.headers["content-type"]) == ("3", "application/octet-stream")


def test_no_timeout_or_wait_is_longer_than_the_deadline() -> None:
    connection, script = connect(OK)
    connection.send(Call("GET", "/v1/jobs/x", wait_s=20), Deadline(2.6))
    (request,) = script.requests
    assert 2 < max(request.extensions["timeout"].values()) <= 2.6
    assert request.headers["prefer"] == "wait=2"


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host:port", ""])
def test_an_invalid_address_raises_an_error_with_an_example(url: str) -> None:
    with pytest.raises(ClientError, match=r"such as http://127\.0\.0\.1:8000"):
        Connection(url)


def test_canceling_a_deadline_ends_a_pause() -> None:
    deadline = Deadline(60)
    threading.Timer(0.05, deadline.cancel).start()
    started_s = time.monotonic()
    assert not deadline.pause(30)
    assert time.monotonic() - started_s < 10
    assert deadline.remaining_s() == 0


def test_renewing_a_deadline_restarts_its_full_time() -> None:
    deadline = Deadline(10)
    assert deadline.pause(0.05)
    assert deadline.remaining_s() < 9.96
    deadline.renew()
    assert deadline.remaining_s() > 9.96


def test_retry_pauses_grow_with_jitter_up_to_a_limit() -> None:
    pauses_s = [retry_pause_s(30, None) for _ in range(50)]
    assert len(set(pauses_s)) > 40
    assert max(pauses_s) <= 12.5
    assert retry_pause_s(4, None) > 2 * retry_pause_s(1, None)
    assert min(retry_pause_s(9, 3.0) for _ in range(50)) >= 3
    assert retry_pause_s(1, 0.0) > 0.1  # `Retry-After: 0` does not cause a busy loop


class _CountingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    open_connections = 0

    def setup(self) -> None:
        super().setup()
        type(self).open_connections += 1

    def finish(self) -> None:
        super().finish()
        type(self).open_connections -= 1

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _CountingHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_each_thread_keeps_one_connection_which_is_closed_when_the_thread_ends(server: str) -> None:
    connection = Connection(server)
    seen: list[int] = []

    def send_twice() -> None:
        connection.send(GET, Deadline(5))
        connection.send(GET, Deadline(5))
        seen.append(_CountingHandler.open_connections)

    send_twice()
    for _ in range(3):
        thread = threading.Thread(target=send_twice)
        thread.start()
        thread.join()
        gc.collect()
        wait_until(lambda: _CountingHandler.open_connections == 1, "the thread's connection to be closed")
    assert seen == [1, 2, 2, 2]
    connection.close()
    wait_until(lambda: _CountingHandler.open_connections == 0, "every connection to be closed")
