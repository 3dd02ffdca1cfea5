"""Hostile uploads: each gets the expected response, no process dies, and memory does not grow."""

import gzip
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import psutil
import pytest

from tests.support.hostile import Hostile, corpus, small_image
from tests.support.images import draw
from tests.support.services import Stack

_GROWTH_MAX_BYTES = 80_000_000


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        yield client


@pytest.fixture
def unharmed(stack: Stack, http: httpx.Client) -> Iterator[None]:
    """Check that no process died, leaked memory or stopped serving."""
    gateway, workers = psutil.Process(stack.gateway.handle.pid), [worker.handle for worker in stack.workers]
    children = {child.pid for child in gateway.children(recursive=True)}
    before = gateway_memory(stack)
    yield
    assert http.post("/v1/jobs", content=draw(), headers={"Prefer": "wait=60"}).json()["status"] == "succeeded"
    assert {child.pid for child in gateway.children(recursive=True)} == children
    assert all(worker.poll() is None for worker in workers)  # the processes in which a worker decodes may end
    assert gateway_memory(stack) - before < _GROWTH_MAX_BYTES


def gateway_memory(stack: Stack) -> int:
    parent = psutil.Process(stack.gateway.handle.pid)
    return sum(process.memory_info().rss for process in (parent, *parent.children(recursive=True)))


def result_of(http: httpx.Client, hostile: Hostile) -> str:
    """Status and code of the error response, or status and error code of the job."""
    part = {"file": (hostile.file, hostile.data, "image/png")}
    response = http.post("/v1/jobs", files=part, headers={"Prefer": "wait=60"})
    body = response.json()
    if response.status_code != 200:
        assert response.headers["Content-Type"] == "application/problem+json", hostile.name
        return f"{response.status_code} {body['code']}"
    return " ".join([body["status"], *([body["error"]["code"]] if body["error"] else [])])


@pytest.mark.slow
def test_every_hostile_image_gets_the_expected_response_or_result(http: httpx.Client, unharmed: None) -> None:
    uploads = corpus()
    assert len(uploads) >= 60
    assert len({hostile.name for hostile in uploads}) == len(uploads)
    # Allocate the memory for the largest image before sending images concurrently.
    http.post("/v1/jobs", content=draw((7000, 7000), 0, mode="L"))
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(lambda hostile: result_of(http, hostile), uploads))
    wrong = [
        f"{hostile.name}: {result}"
        for hostile, result in zip(uploads, results, strict=True)
        if result not in hostile.expected
    ]
    assert not wrong, "\n".join(wrong)


def send_raw(stack: Stack, *pieces: bytes, end: bool = False) -> str:
    """Send raw bytes, and shut down the sending side if `end`; returns the whole response."""
    host, port = stack.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        with suppress(OSError):  # the response may arrive before everything is sent
            for piece in pieces:
                connection.sendall(piece)
            if end:
                connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while b"\r\n\r\n" not in received or b"}" not in received.split(b"\r\n\r\n", 1)[1]:
            data = connection.recv(65_536)
            if not data:
                break
            received += data
    return received.decode()


def post(*headers: str, query: str = "") -> bytes:
    return "\r\n".join((f"POST /v1/jobs{query} HTTP/1.1", "Host: localhost", *headers, "", "")).encode("latin-1")


def encoded(encoding: str, data: bytes) -> tuple[bytes, bytes]:
    """Head and body of a request with an encoded body."""
    return post(f"Content-Encoding: {encoding}", f"Content-Length: {len(data)}"), data


def form(name: str | bytes, data: bytes, part: str = 'name="file"', headers: str = "") -> tuple[bytes, bytes]:
    """Head and body of a form with one part."""
    name = name.encode() if isinstance(name, str) else name
    head = f"--b\r\n{headers}Content-Disposition: form-data; {part}; filename=".encode() + name
    body = head + b"\r\n\r\n" + data + b"\r\n--b--\r\n"
    return post("Content-Type: multipart/form-data; boundary=b", f"Content-Length: {len(body)}"), body


_PNG = draw()
_URL_ENCODED = "Content-Type: application/x-www-form-urlencoded"
#: 3 GB of zeros in 3 MB.
_BOMB = gzip.compress(bytes(10_000_000)) * 300
_CHUNKED = post("Transfer-Encoding: chunked")
_FORM_WITHOUT_BOUNDARY = post("Content-Type: multipart/form-data", "Content-Length: 3"), b"abc"
_FORM_WITH_WRONG_BOUNDARY = (
    post("Content-Type: multipart/form-data; boundary=c", "Content-Length: 9"),
    b"--b\r\n\r\n\r\n",
)
#: The pieces to send, and the expected status.
REQUESTS = {
    "byte by byte": ((post(f"Content-Length: {len(_PNG)}"), *(bytes([byte]) for byte in _PNG)), 202),
    "chunked": ((_CHUNKED, b"%x\r\n" % len(_PNG), _PNG, b"\r\n0\r\n\r\n"), 202),
    "one-byte chunks": ((_CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in _PNG), b"0\r\n\r\n"), 202),
    "chunk with an invalid size": ((_CHUNKED, b"zz\r\n", _PNG), 400),
    "chunk with a negative size": ((_CHUNKED, b"-5\r\n", _PNG), 400),
    "chunk with an excessive size": ((_CHUNKED, b"ffffffffffffffff\r\n", _PNG), 400),
    "truncated body": ((post("Content-Length: 9999"), _PNG), 400),
    "body longer than announced": ((post("Content-Length: 20"), _PNG[:20]), 415),
    "negative length": ((post("Content-Length: -1"), _PNG), 400),
    "length that is not a number": ((post("Content-Length: 1e3"), _PNG), 400),
    "two lengths": ((post("Content-Length: 5", "Content-Length: 6"), _PNG), 400),
    "length and chunks": ((post("Content-Length: 5", "Transfer-Encoding: chunked"), b"0\r\n\r\n"), 400),
    "excessive length": ((post("Content-Length: 99999999999999999999"), _PNG), 413),
    "URL of 5 kB": ((post("Content-Length: 0", query="?file=" + "a" * 5_000), b""), 414),
    "URL of 300 kB": ((post("Content-Length: 0", query="?file=" + "a" * 300_000), b""), 414),
    "URL in Latin-1": ((post(f"Content-Length: {len(_PNG)}", query="?file=K\xe4tzchen.png"), _PNG), 202),
    "header in Latin-1": (
        (post(f"Content-Length: {len(_PNG)}", "X-Request-ID: \xe4", "Idempotency-Key: \xe4"), _PNG),
        202,
    ),
    "unknown expectation": ((post("Content-Length: 0", "Expect: magic"), b""), 417),
    "chunks that are not gzip": ((post("Transfer-Encoding: gzip, chunked"), b"1\r\nx\r\n0\r\n\r\n"), 400),
    "chunk without its end": ((_CHUNKED, b"5\r\nabcdefgh"), 400),
    "truncated chunk": ((_CHUNKED, b"500\r\nabc"), 400),
    "gzip": (encoded("gzip", gzip.compress(_PNG)), 202),
    "truncated gzip": (encoded("gzip", gzip.compress(_PNG)[:-9]), 400),
    "gzip of noise": (encoded("gzip", b"\x1f\x8b\x08\0" + b"\xa5" * 5_000), 400),
    "gzip bomb": (encoded("gzip", _BOMB), 413),
    "gzip header without gzip data": (encoded("gzip", _PNG), 400),
    "endless empty gzip": (encoded("gzip", gzip.compress(b"") * 100_000), 400),
    "brotli header without brotli data": (encoded("br", _PNG), 415),
    "encoded twice": (encoded("gzip, gzip", gzip.compress(gzip.compress(_PNG))), 415),
    "body as curl -d sends it": ((post(_URL_ENCODED, "Content-Length: 60"), _PNG.replace(b"\0", b"")[:60]), 415),
    "20 kB header": ((post("X: " + "a" * 20_000), b""), 431),
    "300 headers": ((post(*(f"X-{n}: 1" for n in range(300))), b""), 431),
    "TLS to a plain HTTP port": ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",), 400),
    "unsupported HTTP version": ((b"GET / HTTP/9.9\r\n\r\n",), 400),
    "plain form": (form('"x.png"', _PNG), 202),
    "60 kB file name": (form('"' + "n" * 60_000 + '"', _PNG), 202),
    "file name with backslashes": (form('"a\\0\\x.png"', _PNG), 202),
    "file name in invalid UTF-8": (form("\"a.png\"; filename*=UTF-8''%ff%00%0d%0a", _PNG), 202),
    "name in Latin-1": (form(b'"K\xe4tzchen.png"', _PNG), 202),
    "name in Shift-JIS": (form('"表"'.encode("shift-jis"), _PNG), 202),
    "name in UTF-16": (form('"a.png"'.encode("utf-16"), _PNG), 202),
    "name of null bytes": (form(b'"\0\0\0"', _PNG), 202),
    "no name": (form("", _PNG), 202),
    "empty name": (form('""', _PNG), 202),
    "name without a closing quote": (form('"a.png', _PNG), 202),
    "part in base64": (form('"a.png"', b"iVBORw0KGgo=", headers="Content-Transfer-Encoding: base64\r\n"), 400),
    "part with a header of noise": (form('"a.png"', _PNG, headers="\x01: \xff\r\n"), 202),
    "part with another name": (form('"a.png"', _PNG, 'name="other"'), 400),
    "empty part": (form('"a.png"', b""), 400),
    "form without a boundary": (_FORM_WITHOUT_BOUNDARY, 400),
    "form with the wrong boundary": (_FORM_WITH_WRONG_BOUNDARY, 400),
}


@pytest.mark.parametrize(("pieces", "status"), REQUESTS.values(), ids=REQUESTS)
def test_unusual_requests_get_the_expected_status(
    stack: Stack, unharmed: None, pieces: tuple[bytes, ...], status: int
) -> None:
    response = send_raw(stack, *pieces, end=status in (400, 413))
    assert response.startswith(f"HTTP/1.1 {status} "), response
    if status >= 400:
        assert "application/problem+json" in response


#: A request of `REQUESTS`, and a part of the response.
CAUSES = {
    "chunk with an invalid size": "chunks of the request body are malformed: Invalid chunk size",
    "chunk without its end": "chunks of the request body are malformed",
    "truncated chunk": "ended early",
    "truncated body": f"ended after {len(_PNG)} of 9,999 bytes",
    "URL of 5 kB": "URL is longer than the limit of 4,094 bytes",
    "20 kB header": "longer than 8,190 bytes",
    "300 headers": "more than 100 header fields",
    "truncated gzip": "gzip data is truncated",
    "body as curl -d sends it": "--data-binary",
    "form with the wrong boundary": "boundary",
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_response_to_a_malformed_request_states_the_cause(stack: Stack, name: str) -> None:
    assert CAUSES[name] in send_raw(stack, *REQUESTS[name][0], end=True)


def test_a_form_with_ten_thousand_parts_is_rejected(http: httpx.Client, unharmed: None) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert http.post("/v1/jobs", content=part * 10_000 + b"--b--\r\n", headers=headers).status_code == 413


def test_predict_rejects_corrupt_images_with_the_old_error_format(http: httpx.Client, unharmed: None) -> None:
    for data in (b"", b"hello", small_image("PNG")[:300], small_image("JPEG")[:700]):
        response = http.post("/predict", files={"file": ("x.png", data, "image/png")})
        assert (response.status_code, response.json().keys()) == (400, {"error", "detail"})
