"""The web server with a small application: what clients can take of it, and what remains for others."""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from contract.web.connections import SPARE
from tests.support.services import Process, accepts_connections, free_port, running, wait_until

#: Counts the bytes of the body. `/hold` responds when `/let-go` is requested, `/work` computes until then. `/turns`
#: waits for 20 turns and responds with the number of turns that others had. `/zip` and `/results` read a zip and pages
#: of results, and respond with the longest time, in ms of processor time, between two turns of another client.
#: `/refusals` responds with the server's counts. `/block` stops the event loop until a pipe is written to, and
#: `/busy` responds with the number of health checks before it.
_SERVICE = """
import io, json, struct, sys, tempfile, threading, time
from pathlib import Path
from contract.errors import UnavailableError
from contract.job import Job, JobStatus
from contract.proxy import behind_proxy, parse_networks
from contract.web.limits import WebLimits
from contract.web.server import Server
from contract.web.turns import yield_turn
from gateway.accept.archives import UnpackBudget, read_zip
from gateway.accept.spool import Spool
from gateway.results.streams import in_order_of_acceptance, to_ndjson

networks = parse_networks("127.0.0.2")

class Ledger:
    jobs = [Job(str(n), "bulk", 0, file="cat.jpg", size_bytes=7, status=JobStatus.CANCELED) for n in range(4_000)]

    def submission_job_ids(self, submission_id, start, count):
        return [job.id for job in self.jobs[start : start + count]]

    def get(self, ids):
        return [self.jobs[int(job_id)] for job_id in ids]

def read_a_zip():
    entry, count = struct.pack("<4s4xH18xH16xs", b"PK\\1\\2", 1, 1, b"a"), 15_000  # encrypted
    zipped = entry * count + struct.pack("<4s4xHHII2x", b"PK\\5\\6", count, count, count * len(entry), 0)
    spool = Spool(Path(tempfile.gettempdir()), 10**9).file("")
    yield
    yield from read_zip(io.BytesIO(zipped).read, 1_000, UnpackBudget(10**9, 20_000), spool)

def read_results():
    yield
    yield from to_ndjson(in_order_of_acceptance(Ledger(), "", 0, list(JobStatus)))

def longest_ms(work):
    # Between two turns of a thread that does nothing.
    turns_s, is_working = [], True

    def take_turns():
        while is_working:
            turns_s.append(time.thread_time())
            yield_turn()

    next(work)
    other = threading.Thread(target=take_turns)
    other.start()
    for _ in work:
        pass
    turns_s.append(time.thread_time())
    is_working = False
    other.join()
    return round(1000 * max(after - before for before, after in zip(turns_s, turns_s[1:])))

def make_app(refusals):
    let_go = threading.Event()
    turns, checks = [], []

    def app(environ, start_response):
        size, status, headers, path = 0, "200 OK", [], environ["PATH_INFO"]
        try:
            while piece := environ["wsgi.input"].read(65_536):
                size += len(piece)
        except UnavailableError as error:
            status, headers = "503 Service Unavailable", [("Retry-After", str(error.retry_after_s))]
        except OSError:
            status = "400 Bad Request"
        if path == "/hold":
            let_go.wait()
        if path == "/work":
            let_go.clear()
            end_s = time.monotonic() + 20
            while not let_go.is_set() and time.monotonic() < end_s:
                yield_turn()
                if not turns or turns[-1] is not environ:
                    turns.append(environ)
            status = "200 OK" if let_go.is_set() else "500 Nobody else was served"
        if path == "/turns":
            size -= len(turns)
            for _ in range(20):
                end_s = time.monotonic() + 0.003
                while time.monotonic() < end_s:
                    pass
                yield_turn()
            size += len(turns)
        if path == "/let-go":
            let_go.set()
        if path == "/healthz":
            checks.append(environ)
        if path == "/block":
            Path(pipe).read_bytes()
        if path == "/busy":
            end_s = time.monotonic() + 0.005
            while time.monotonic() < end_s:
                pass
            size = len(checks)
        if path == "/zip":
            size = longest_ms(read_a_zip())
        if path == "/results":
            size = longest_ms(read_results())
        body = json.dumps(refusals.counts if path == "/refusals" else size).encode()
        start_response(status, [("Content-Length", str(len(body))), *headers])
        return [body]
    return behind_proxy(app, "", networks)

bind, limits, pipe = sys.argv[1:]
Server({"bind": bind, "graceful_timeout": 5}, WebLimits(**json.loads(limits)), networks, make_app).run()
"""
_PROXY = "127.0.0.2"
_ADDRESS_MAX = 20
_SHARED = {
    "body_max_bytes": 2_000_000,
    "bodies_max_bytes": 16_000_000,
    "caller_max_bytes": 8_000_000,
    "spare_bytes": 2_000_000,
    "room_wait_s": 0.1,
    "connections_per_address": _ADDRESS_MAX,
}
#: The largest body; three of them fit into the share of a client.
_BYTES = 2_000_000
_BODY = bytes(_BYTES)


@dataclass
class Service:
    """A running server."""

    port: int
    process: Process
    #: What `/block` reads.
    pipe: Path

    def connect(self, text: bytes = b"", *, through: str = "127.0.0.1") -> socket.socket:
        """Open a connection from this address and send `text`."""
        sock = socket.create_connection(("127.0.0.1", self.port), 60, (through, 0))
        sock.sendall(text)
        return sock

    def send(self, text: bytes, *, through: str = "127.0.0.1") -> tuple[int, bytes]:
        """Send a request on a new connection; returns the status and the body of the response."""
        with closing(self.connect(text, through=through)) as sock:
            return response(sock)

    def refusals(self) -> dict[str, int]:
        """What was refused, by reason."""
        counts: dict[str, int] = json.loads(self.send(head("GET /refusals", "Connection: close"))[1])
        return counts

    def is_healthy(self) -> bool:
        """Whether a health check succeeds."""
        return self.send(head("GET /healthz", "Connection: close"))[0] == 200

    def cpu_s(self) -> float:
        """The processor time that the serving process has used."""
        (serving,) = psutil.Process(self.process.handle.pid).children()
        return float(sum(serving.cpu_times()[:2]))

    def memory(self) -> int:
        """The resident memory of the serving process, in bytes."""
        (serving,) = psutil.Process(self.process.handle.pid).children()
        return int(serving.memory_info().rss)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server that waits long for its clients."""
    with serving(tmp_path_factory.mktemp("patient"), head_s=600, body_pause_s=600) as service:
        yield service


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server that does not."""
    with serving(tmp_path_factory.mktemp("impatient"), head_s=1, body_pause_s=1.5) as service:
        yield service


@contextmanager
def serving(folder: Path, **limits: Any) -> Iterator[Service]:
    port, pipe = free_port(), folder / "pipe"
    os.mkfifo(pipe)
    command = [sys.executable, "-c", _SERVICE, f"127.0.0.1:{port}", json.dumps(_SHARED | limits), str(pipe)]
    with running("server", command, folder) as process:
        wait_until(lambda: accepts_connections(port), "the server to accept connections")
        yield Service(port, process, pipe)


def head(request: str, *fields: str) -> bytes:
    return "\r\n".join((f"{request} HTTP/1.1", "Host: x", *fields, "", "")).encode()


def response(sock: socket.socket) -> tuple[int, bytes]:
    """Read a response with a Content-Length."""
    with sock.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        fields = dict(line.decode().rstrip().split(": ", 1) for line in iter(stream.readline, b"\r\n"))
        return status, stream.read(int(fields["Content-Length"]))


def upload(client: int, size: int = _BYTES) -> bytes:
    """The head of an upload by a client of the proxy."""
    return head("POST /", f"Content-Length: {size}", "Connection: close", f"X-Forwarded-For: 192.0.2.{client}")


def test_an_unfinished_head_gets_an_answer_and_takes_little_memory(impatient: Service) -> None:
    assert impatient.is_healthy()
    before, counted = impatient.memory(), impatient.refusals()
    with ExitStack() as stack:

        def open_connection(text: bytes) -> socket.socket:
            return stack.enter_context(closing(impatient.connect(text, through=_PROXY)))

        endless = [open_connection(b"GET / HTTP/1.1\r\n") for _ in range(80)]
        for sock in endless:
            with suppress(OSError):
                sock.sendall(b"X: " + b"a" * 761_000)
        answers = {(status, json.loads(body)["code"]) for status, body in map(response, endless)}
        assert answers <= {(431, "headers_too_large"), (408, "head_too_slow")}
        assert impatient.memory() - before < 20_000_000
        status, body = response(open_connection(b"GET / HTTP/1.1\r\nHost:"))
        assert (status, json.loads(body)["code"]) == (408, "head_too_slow")
        assert open_connection(b"").recv(1) == b""
    refusals = impatient.refusals()
    assert sum(refusals[name] - counted[name] for name in ("head_too_large", "head_too_slow")) == 81
    assert len([line for line in impatient.process.tail().splitlines() if "Refused" in line]) < 10


def test_silent_connections_lock_nobody_out(patient: Service) -> None:
    with closing(patient.connect(upload(1))) as uploading, ExitStack() as stack:
        silent = [stack.enter_context(closing(patient.connect())) for _ in range(_ADDRESS_MAX + 2 * SPARE)]
        assert patient.is_healthy()
        assert patient.refusals()["idle_closed"] >= SPARE
        assert silent[0].recv(1) == b""
        # The request in progress was not interrupted.
        uploading.sendall(_BODY)
        assert response(uploading) == (200, b"2000000")


def test_requests_beyond_the_limit_of_a_client_are_refused_except_health_checks(patient: Service) -> None:
    def get(path: str, client: int) -> bytes:
        return head(f"GET {path}", f"X-Forwarded-For: 192.0.2.{client}")

    with ExitStack() as stack:
        held = [stack.enter_context(closing(patient.connect(get("/hold", 2), through=_PROXY))) for _ in range(20)]
        wait_until(lambda: patient.send(get("/", 2), through=_PROXY)[0] == 503, "the limit to be reached")
        assert patient.send(get("/paw/healthz", 2), through=_PROXY) == (200, b"0")
        # The other clients of the same proxy are not affected.
        assert patient.send(get("/let-go", 3), through=_PROXY) == (200, b"0")
        assert [response(sock)[0] for sock in held] == [200] * 20
    assert patient.refusals()["too_many_requests"] >= 1


def test_a_request_with_much_work_lets_others_go_first(patient: Service) -> None:
    with ExitStack() as stack:
        working = [stack.enter_context(closing(patient.connect(head("GET /work")))) for _ in range(3)]
        assert patient.send(head("GET /let-go", "Connection: close")) == (200, b"0")
        assert [response(sock)[0] for sock in working] == [200] * 3


def test_requests_that_arrive_at_once_let_health_checks_go_first(patient: Service) -> None:
    with ExitStack() as stack:
        first, *busy, last = [stack.enter_context(closing(patient.connect(head("GET /healthz")))) for _ in range(14)]
        assert [response(sock)[0] for sock in (first, *busy, last)] == [200] * 14
        before = int(patient.send(head("GET /busy", "Connection: close"))[1])
        blocking = stack.enter_context(closing(patient.connect(head("GET /block"))))
        with patient.pipe.open("wb"):  # waits until the server reads
            for sock in (first, *busy, last):
                sock.sendall(head("GET /busy" if sock in busy else "GET /healthz"))
        assert [response(sock)[0] for sock in (first, last, blocking)] == [200] * 3
        counts = [int(response(sock)[1]) for sock in busy]
    assert counts.count(before + 2) > 6


@pytest.mark.parametrize("path", ["/zip", "/results"])
def test_a_long_archive_and_many_results_let_others_go_first(patient: Service, path: str) -> None:
    status, longest_ms = patient.send(head(f"GET {path}", "Connection: close"))
    assert status == 200
    assert int(longest_ms) < 25


@pytest.mark.parametrize(
    "request_text",
    [head("GET /"), head("POST /", "Transfer-Encoding: chunked") + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"],
    ids=["requests without a pause", "tiny chunks"],
)
def test_a_connection_that_always_has_input_lets_others_go_first(patient: Service, request_text: bytes) -> None:
    assert patient.is_healthy()  # it has started
    pieces = request_text * max(1, 50_000 // len(request_text))

    def send() -> None:
        with suppress(OSError):
            while True:
                busy.sendall(pieces)

    def receive() -> None:
        with suppress(OSError):
            while busy.recv(65_536):
                pass

    with closing(patient.connect()) as busy, ThreadPoolExecutor(2) as pool:
        pool.submit(send)
        pool.submit(receive)
        try:
            for _ in range(20):
                before_s = patient.cpu_s()
                assert patient.is_healthy()
                assert patient.cpu_s() - before_s < 0.5
        finally:
            busy.shutdown(socket.SHUT_RDWR)


def test_the_requests_of_one_client_have_together_as_many_turns_as_another_client(patient: Service) -> None:
    work = head("GET /work", "Connection: close", "X-Forwarded-For: 192.0.2.5")
    with ExitStack() as stack:
        working = [stack.enter_context(closing(patient.connect(work, through=_PROXY))) for _ in range(15)]
        _, turns = patient.send(head("GET /turns", "Connection: close"))
        assert 10 < int(turns) < 80
        assert patient.send(head("GET /let-go", "Connection: close"))[0] == 200
        assert [response(sock)[0] for sock in working] == [200] * 15


@pytest.mark.parametrize(
    "request_text",
    [
        head("POST /", "Transfer-Encoding: chunked") + b"1;a\nx\r\nq\r\n0\r\n\r\n",
        head("POST /", "Transfer-Encoding: chunked") + b"\n1\r\nq\r\n0\r\n\r\n",
        head("POST /", "Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n",
        head("POST /", "Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
        head("POST /", "Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n",
        head("POST /", "Content-Length: 0", "Content-Length: 0"),
        head("POST /", "Content-Length:", " 0"),
        head("POST /", "X: a\nContent-Length: 0"),
    ],
    ids=["LF in an extension", "LF before a size", "length and chunks", "another coding last", "vertical tab",
         "two lengths", "folded field", "LF in a field"],
)  # fmt: skip
def test_a_body_whose_end_proxies_may_see_elsewhere_is_rejected(patient: Service, request_text: bytes) -> None:
    assert patient.send(request_text)[0] == 400


def test_a_health_check_with_a_body_is_an_ordinary_request(patient: Service) -> None:
    check = head("POST /x/healthz", "Content-Length: 10", "X-Forwarded-For: 192.0.2.4")
    with ExitStack() as stack:
        for _ in range(_ADDRESS_MAX):
            stack.enter_context(closing(patient.connect(check, through=_PROXY)))
        wait_until(lambda: patient.send(check, through=_PROXY)[0] == 503, "the limit to be reached")
        assert patient.send(head("GET /healthz", "X-Forwarded-For: 192.0.2.4"), through=_PROXY)[0] == 200


def test_bodies_that_are_withheld_take_only_the_share_of_their_client(impatient: Service) -> None:
    before = impatient.refusals()
    with ExitStack() as stack:
        withheld = [stack.enter_context(closing(impatient.connect(upload(4), through=_PROXY))) for _ in range(15)]
        for sock in withheld:
            with suppress(OSError):
                sock.sendall(_BODY[1:])
        assert impatient.send(upload(5) + _BODY, through=_PROXY) == (200, b"2000000")
        statuses = [response(sock)[0] for sock in withheld]
    refusals = impatient.refusals()
    refused = [refusals[name] - before[name] for name in ("body_too_slow", "body_no_room")]
    assert [statuses.count(400), statuses.count(503)] == refused
    assert min(refused) >= 3
    # The room is free again.
    assert [impatient.send(upload(4) + _BODY, through=_PROXY)[0] for _ in range(4)] == [200] * 4


def test_a_fast_start_buys_no_silence_later(impatient: Service) -> None:
    stop = threading.Event()

    def drip(sock: socket.socket) -> None:
        with suppress(OSError):
            while not stop.wait(0.1):
                sock.sendall(b"x")

    with closing(impatient.connect(upload(6) + _BODY[500:], through=_PROXY)) as sock:
        dripping = threading.Thread(target=drip, args=(sock,))
        dripping.start()
        assert response(sock)[0] == 400
        stop.set()
        dripping.join()


def test_parallel_uploads_of_unknown_size_wait_for_each_other(patient: Service) -> None:
    part = b"%x\r\n" % 1_500_000 + bytes(1_500_000) + b"\r\n"
    count = 6
    begun = threading.Barrier(count)

    def send(_: int) -> tuple[int, bytes]:
        fields = "Transfer-Encoding: chunked", "Connection: close", "X-Forwarded-For: 192.0.2.7"
        with closing(patient.connect(head("POST /", *fields) + part[:900_000], through=_PROXY)) as sock:
            # All have begun before any of them needs more room.
            begun.wait(60)
            sock.sendall(part[900_000:] + b"0\r\n\r\n")
            return response(sock)

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(send, range(count))) == [(200, b"1500000")] * count


def test_a_client_that_asks_first_sends_its_body_only_if_there_is_room(patient: Service) -> None:
    asking = upload(8).replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")
    with ExitStack() as stack:
        accepted = [stack.enter_context(closing(patient.connect(asking, through=_PROXY))) for _ in range(3)]
        for sock in accepted:
            assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert patient.send(asking, through=_PROXY)[0] == 503
        accepted[0].sendall(_BODY)
        assert response(accepted[0]) == (200, b"2000000")


def test_a_chunk_header_without_end_is_rejected(patient: Service) -> None:
    text = head("POST /", "Transfer-Encoding: chunked", "Connection: close") + b"1;" + b"a" * 5_000_000
    assert patient.send(text)[0] == 400


def test_what_the_application_leaves_unread_is_not_the_next_request(patient: Service) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(patient.connect(upload(9) + _BODY[1:], through=_PROXY)))
        text = upload(9).replace(b"Connection: close\r\n", b"") + head("GET /healthz")

        def refused() -> socket.socket | None:
            sock = stack.enter_context(closing(patient.connect(text, through=_PROXY)))
            return sock if response(sock)[0] == 503 else None

        sock = refused()
        assert sock
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
