"""Retries, deadlines, and which error says what."""

import gc
import threading
from contextlib import nullcontext

import httpx
import pytest

from pawqueue.deadline import Deadline, pause_s
from pawqueue.errors import ClientError, RefusedError, TimedOutError, UnreachableError
from pawqueue.wire import Call, Wire
from tests.unit.pawqueue.conftest import FakeTime
from tests.unit.pawqueue.fakes import URL, FakeGateway, answer, deadline, problem

GET = Call("GET", "/v1/jobs/x")


def wire(*script: object) -> tuple[Wire, FakeGateway]:
    gateway = FakeGateway(*script)  # type: ignore[arg-type]
    return Wire(URL, "secret", gateway), gateway


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_answer_is_tried_again_but_not_before_the_time_it_names(status: int, fake_time: FakeTime) -> None:
    sender, gateway = wire(problem(status, "queue_full", Retry_After="7"), answer(200, {}))
    assert sender.send(GET, deadline(60)).status_code == 200
    assert len(gateway.requests) == 2
    assert 7 <= sum(fake_time.pauses_s) <= 7 * 1.25


def test_a_retry_after_beyond_the_deadline_ends_the_call_at_once(fake_time: FakeTime) -> None:
    sender, gateway = wire(problem(503, "unavailable", Retry_After="60"))
    with pytest.raises(RefusedError, match="unavailable") as caught:
        sender.send(GET, deadline(30))
    assert (len(gateway.requests), fake_time.pauses_s) == (1, [])
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 60)


def test_a_lost_connection_is_tried_again_until_the_deadline_with_growing_pauses(fake_time: FakeTime) -> None:
    sender, gateway = wire(httpx.ConnectError("Connection refused"))
    with pytest.raises(UnreachableError, match=r"Nothing answers at http://gateway\.test \(Connection refused\)"):
        sender.send(GET, deadline(20))
    assert len(gateway.requests) == len(fake_time.pauses_s) + 1 >= 5
    assert sum(fake_time.pauses_s) <= 20
    assert fake_time.pauses_s[3] > 2 * fake_time.pauses_s[0]


def test_a_time_out_is_told_from_an_unreachable_gateway(fake_time: FakeTime) -> None:
    sender, _ = wire(httpx.ReadTimeout("slow"))
    with pytest.raises(TimedOutError, match="gave no answer in time"):
        sender.send(GET, deadline(1))


@pytest.mark.parametrize(("status", "code"), [(400, "no_file"), (404, "not_found"), (413, "upload_too_large")])
def test_a_refusal_is_final_and_keeps_the_problem(status: int, code: str) -> None:
    sender, gateway = wire(problem(status, code, "Send less."))
    with pytest.raises(RefusedError, match="Send less") as caught:
        sender.send(GET, deadline())
    assert (caught.value.status, caught.value.code, caught.value.detail) == (status, code, "Send less.")
    assert not caught.value.retryable
    assert len(gateway.requests) == 1


@pytest.mark.parametrize("content", [b"<html>", b'"text"', b"{broken"])
def test_a_refusal_by_something_in_between_has_a_code_too(content: bytes) -> None:
    sender, _ = wire(httpx.Response(413, content=content, headers={"content-type": "application/json"}))
    with pytest.raises(RefusedError, match="Request Entity Too Large") as caught:
        sender.send(GET, deadline())
    assert caught.value.code == "http_413"


def test_a_redirect_is_no_answer_of_a_gateway() -> None:
    sender, _ = wire(httpx.Response(301, headers={"location": "https://elsewhere"}))
    with pytest.raises(UnreachableError, match="redirect"):
        sender.send(GET, deadline())


def test_a_request_carries_key_wait_query_and_body() -> None:
    sender, gateway = wire(answer(200, {}))
    sender.send(Call("POST", "/v1/jobs", {"file": "ä b/=&.jpg"}, lambda: nullcontext(b"abc"), wait_s=9), deadline())
    (request,) = gateway.requests
    assert request.url.params["file"] == "ä b/=&.jpg"
    assert request.content == b"abc"
    assert (request.headers["authorization"], request.headers["prefer"]) == ("Bearer secret", "wait=9")
    assert (request.headers["content-length"], request.headers["content-type"]) == ("3", "application/octet-stream")


def test_no_time_limit_reaches_beyond_the_deadline(fake_time: FakeTime) -> None:
    sender, gateway = wire(answer(200, {}))
    sender.send(GET, deadline(2.5))
    assert max(gateway.requests[0].extensions["timeout"].values()) == 2.5


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://", "http://host:port", ""])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ClientError, match=r"such as http://127\.0\.0\.1:8000"):
        Wire(url)


def test_a_canceled_deadline_ends_a_pause_and_has_no_time_left() -> None:
    end = Deadline(60)
    end.cancel()
    assert not end.pause(30)
    assert end.remaining_s() == 0


def test_a_renewed_deadline_has_its_full_time_again(fake_time: FakeTime) -> None:
    end = Deadline(10)
    assert end.pause(8)
    end.renew()
    assert end.remaining_s() == 10


def test_pauses_are_spread_and_bounded() -> None:
    pauses_s = [pause_s(30, None) for _ in range(50)]
    assert len(set(pauses_s)) > 40
    assert max(pauses_s) <= 12.5
    assert min(pause_s(9, 3.0) for _ in range(50)) >= 3
    assert pause_s(1, 0.0) > 0.1  # "at once" is no licence to hammer


def test_threads_have_connections_of_their_own_that_end_with_them() -> None:
    sender = Wire("http://127.0.0.1:9")
    mine = sender._transport()

    def look() -> None:
        assert sender._transport() is not mine
        seen.append(len(sender._opened))

    seen: list[int] = []
    for _ in range(3):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    gc.collect(0)  # they are young
    assert seen == [2, 2, 2]
    assert sender._transport() is mine
    sender.close()
    assert len(sender._opened) == 0
