"""Requests go only to public addresses, and to the very address that was checked."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from contract.destinations import Destinations, ForbiddenUrlError, is_public, parse_allowed
from contract.outbound import Outbound, OutboundError
from tests.support.receiver import Receiver, receiving

SETTING = "PAWQUEUE_WEBHOOK_ALLOW"


def outbound(allow: str = "", **parts: Any) -> Outbound:
    return Outbound(destinations(allow), **parts)


def destinations(allow: str = "") -> Destinations:
    return Destinations(parse_allowed(allow), SETTING)


def answers(*addresses: str) -> Callable[..., list[Any]]:
    """A resolver with one answer after another; the last one stays."""
    left = list(addresses)

    def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.8.9.1", "169.254.169.254", "172.31.0.1"),
        *("192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "168.63.129.16"),
        *("::", "::1", "::7f00:1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%2", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1"),
        *("2002:7f00:1::", "2001:0:1::1", "2001:db8::1", "3fff::1", "100::1"),
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(ForbiddenUrlError, match="not a public address"):
        outbound(resolve=answers(address)).post("http://example.org/", b"", {}, 1)


@pytest.mark.parametrize("address", ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.org/", "must start with"),
        ("file:///etc/passwd", "must start with"),
        ("https://user:password@example.org/", "user name"),
        ("https://example.org/#part", "fragment"),
        ("https:///path", "no host"),
        ("https://example.org:22/", "Port 22"),
        ("https://example.org:99999/", "Not a URL"),
        ("https://example.org/a b", "percent-encoded"),
        ("https://example.org\\@10.0.0.1/", "percent-encoded"),
        ("https://m\u00fcnchen.example/", "Punycode"),
        ("https://" + 2000 * "a", "longer"),
        ("http://127.0.0.1/", SETTING),
        ("http://127.1/", SETTING),
        ("http://2130706433/", SETTING),
        ("http://0x7f000001/", SETTING),
        ("http://[::1]/", SETTING),
        ("http://[::ffff:10.0.0.1]/", SETTING),
        ("http://localhost/", SETTING),
        ("http://a.localhost:8000/", SETTING),
    ],
)
def test_a_url_to_which_nothing_can_be_sent_is_found_without_resolving_it(url: str, problem: str) -> None:
    with pytest.raises(ForbiddenUrlError, match=problem):
        destinations().check_url(url)


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080/"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/"),
        ("10.0.0.0/8", "https://10.2.3.4/"),
        ("[::1]:8080, fd00::/8", "http://[fd00::1]/"),
        ("localhost", "http://localhost:3000/x?y=z"),
        ("mail.lan:25", "http://mail.lan:25/"),
    ],
)
def test_an_operator_can_allow_what_is_not_public(allow: str, url: str) -> None:
    destinations(allow).check_url(url)


@pytest.mark.parametrize(
    ("allow", "url"), [("127.0.0.1:8080", "http://127.0.0.1:8081/"), ("a.lan", "http://10.0.0.1/")]
)
def test_what_is_allowed_covers_nothing_else(allow: str, url: str) -> None:
    with pytest.raises(ForbiddenUrlError):
        destinations(allow).check_url(url)


@pytest.mark.parametrize("item", ["10.0.0.0/99", "http://a.lan", "user@a.lan", "a.lan:", "a.lan:x"])
def test_an_invalid_exception_is_found(item: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_allowed(item)


def test_a_name_server_that_changes_its_answer_gains_nothing(receiver: Receiver) -> None:
    calls: list[str] = []
    resolve = answers("127.0.0.1", "127.0.0.2")

    def counted(host: str, port: int, **options: Any) -> list[Any]:
        calls.append(host)
        return resolve(host, port, **options)

    sender, url = outbound("127.0.0.1", resolve=counted), f"http://rebinding.example:{receiver.port}/"
    assert sender.post(url, b"", {}, 10).status == 204
    assert calls == ["rebinding.example"], "a second answer could differ from the one that was checked"
    with pytest.raises(ForbiddenUrlError):
        sender.post(url, b"", {}, 10)
    assert len(receiver.received) == 1


def test_one_private_address_among_public_ones_is_refused(receiver: Receiver) -> None:
    def resolve(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, 1, 6, "", (text, port)) for text in ("203.0.114.1", "127.0.0.1")]

    with pytest.raises(ForbiddenUrlError):
        outbound(resolve=resolve).post(f"http://mixed.example:{receiver.port}/", b"", {}, 5)
    assert receiver.received == []


def test_the_connection_is_made_to_the_address_that_was_checked(receiver: Receiver) -> None:
    sender = outbound("hooks.example", resolve=answers("127.0.0.1", "192.0.2.1"))
    reply = sender.post(f"http://hooks.example:{receiver.port}/a?b=c", b"{}", {"X-One": "1"}, 10)
    (request,) = receiver.received
    assert (reply.status, request.path, request.body) == (204, "/a?b=c", b"{}")
    assert request.headers["host"] == f"hooks.example:{receiver.port}"
    assert request.headers["x-one"] == "1"


def test_a_proxy_of_the_environment_is_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert outbound(receiver.allow).post(receiver.url, b"", {}, 10).status == 204


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.respond = lambda _: (307, {"Location": receiver.url})
    assert outbound(receiver.allow).post(receiver.url, b"", {}, 10).status == 307
    assert len(receiver.received) == 1


def test_the_time_in_retry_after_is_returned(receiver: Receiver) -> None:
    for text, expected in (("120", 120), ("99999999", 86_400), ("Fri, 31 Dec 1999 23:59:59 GMT", None), ("-1", None)):
        receiver.respond = lambda _, text=text: (503, {"Retry-After": text})  # type: ignore[misc]
        assert outbound(receiver.allow).post(receiver.url, b"", {}, 10).retry_after_s == expected


@contextmanager
def dripping(data: Callable[[], bytes]) -> Iterator[int]:
    """A server that sends a little all the time and never ends; yields its port."""
    stopped = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while not stopped.wait(0.02):
                try:
                    connection.sendall(data())
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        stopped.set()
        thread.join()


def test_a_response_that_drips_ends_at_the_timeout() -> None:
    started_s = time.monotonic()
    with dripping(lambda: b"H") as port, pytest.raises(OutboundError):
        outbound("127.0.0.1").post(f"http://127.0.0.1:{port}/", b"", {}, 0.5)
    assert time.monotonic() - started_s < 30


def test_only_the_start_of_a_long_body_is_read() -> None:
    pieces = iter([b"HTTP/1.1 500 Broken\r\n\r\n"])
    with dripping(lambda: next(pieces, 100_000 * b"x")) as port:
        reply = outbound("127.0.0.1").post(f"http://127.0.0.1:{port}/", b"", {}, 60)
    assert (reply.status, len(reply.text)) == (500, 4096)


def test_what_is_not_http_is_an_error() -> None:
    with dripping(lambda: b"220 mail ready\r\n") as port, pytest.raises(OutboundError):
        outbound("127.0.0.1").post(f"http://127.0.0.1:{port}/", b"", {}, 10)
