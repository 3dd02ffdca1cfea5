"""Idle and slow connections: they neither block other clients nor keep the gateway from stopping."""

import json
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from contract.ledger.ledger import Ledger
from contract.queues import INTERACTIVE, QUEUES
from tests.support.archives import tar_of
from tests.support.images import draw
from tests.support.ledger import patient_client
from tests.support.services import Process, free_port, running, wait_until

_IMAGE = draw((60, 40), form="JPEG")
_HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
_WITH_A_SHORT_BODY_TIMEOUT = """
from contract.web.limits import WebLimits
from gateway.__main__ import main
main(WebLimits(1_000_000, 8_000_000, 8_000_000, body_pause_s=1.5, body_bytes_per_s=100.0))
"""
_WITH_A_SHORT_WORKER_TIMEOUT = """
from gateway.__main__ import main
main(timeout=2)
"""


@contextmanager
def gateway(folder: Path, redis_url: str, *command: str, **settings: str) -> Iterator[tuple[int, Process]]:
    """Start a gateway without a worker; yields its port and process once it accepts requests."""
    port = free_port()
    environ = variables(folder, redis_url, port) | settings
    with running("gateway", [sys.executable, *(command or ("-m", "gateway"))], folder, environ) as process:
        wait_until(lambda: responds(port), "the gateway to accept requests")
        yield port, process


def variables(folder: Path, redis_url: str, port: int) -> dict[str, str]:
    environ = {"PAWQUEUE_REDIS_URL": redis_url, "PAWQUEUE_GATEWAY_PORT": str(port), "PAWQUEUE_LOG_LEVEL": "warning"}
    return environ | {"PAWQUEUE_STATE_DIR": str(folder / "state")}


def connect(port: int, text: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 60)
    sock.sendall(text)
    return sock


def responds(port: int) -> bool:
    with suppress(OSError), connect(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") as sock:
        return sock.recv(100).startswith(b"HTTP/1.1 200")
    return False


def is_closed(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def read_response(sock: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and JSON body of a response after which the gateway closes the connection."""
    head, _, body = b"".join(iter(lambda: sock.recv(65_536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def drip(sock: socket.socket, text: bytes, pause_s: float, stop: threading.Event) -> None:
    """Send `text` repeatedly until the connection fails or `stop` is set."""
    with suppress(OSError):
        while not stop.wait(pause_s):
            sock.sendall(text)


def test_a_stopping_gateway_finishes_uploads_and_closes_idle_connections(tmp_path: Path, clean_redis: str) -> None:
    with gateway(tmp_path, clean_redis, PAWQUEUE_DRAIN_S="120") as (port, process):
        silent, half_head = connect(port), connect(port, b"POST /v1/jobs HTTP/1.1\r\n")
        kept = connect(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while not received.endswith(b"}\n"):
            received += kept.recv(1000)
        assert received.startswith(b"HTTP/1.1 200")
        upload = connect(port, _HEAD % len(_IMAGE) + _IMAGE[:100])
        wait_until(lambda: responds(port), "the upload to start")
        process.handle.send_signal(signal.SIGTERM)
        wait_until(lambda: is_closed(port), "the gateway to refuse connections")
        for idle in (silent, half_head, kept):
            assert idle.recv(100) == b""
        assert process.handle.poll() is None
        upload.sendall(_IMAGE[100:])
        assert read_response(upload)[0] == 202
        assert process.handle.wait(60) == 0
        assert "Traceback" not in process.log.read_text()
    assert Ledger(patient_client(clean_redis)).stats(QUEUES).queues[INTERACTIVE].queued == 1


def test_a_stopping_gateway_answers_requests_that_wait_for_results(tmp_path: Path, clean_redis: str) -> None:
    ledger, job_id = Ledger(patient_client(clean_redis)), str(uuid.uuid4())
    prefer = b"Host: localhost\r\nPrefer: wait=60\r\n"
    with gateway(tmp_path, clean_redis, PAWQUEUE_DRAIN_S="120") as (port, process):
        upload = (_HEAD % len(_IMAGE) + _IMAGE).replace(b"POST /v1/jobs", f"PUT /v1/jobs/{job_id}".encode())
        waiting = [connect(port, upload.replace(b"Host: localhost\r\n", prefer))]
        wait_until(lambda: ledger.get([job_id])[0] is not None, "the job to be recorded")
        opened = connect(
            port, b"PUT /v1/submissions/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % job_id.encode()
        )
        assert read_response(opened)[0] == 201
        for kind in ("jobs", "submissions"):
            waiting += [connect(port, f"GET /v1/{kind}/{job_id} HTTP/1.1\r\n".encode() + prefer + b"\r\n")]
        wait_until(lambda: responds(port), "the requests to start")
        process.handle.send_signal(signal.SIGTERM)
        assert [read_response(sock)[0] for sock in waiting] == [202, 200, 200]
        assert process.handle.wait(60) == 0


def test_images_that_are_stored_leave_room_for_others(tmp_path: Path, clean_redis: str) -> None:
    comment = bytes(65_000)
    image = _IMAGE[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + _IMAGE[2:]
    count, ledger = 200, Ledger(patient_client(clean_redis))
    # Room for 8 MB from one client.
    limits = {"PAWQUEUE_UPLOAD_MAX_BYTES": "100000", "PAWQUEUE_BODIES_MAX_BYTES": "1", "PAWQUEUE_DRAIN_S": "120"}
    with gateway(tmp_path, clean_redis, **limits) as (port, process):
        job_id = str(uuid.uuid4()).encode()
        fields = b"HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        assert read_response(connect(port, b"PUT /v1/submissions/%s %s\r\n" % (job_id, fields)))[0] == 201
        tar = tar_of({f"{number}.jpg": bytes(90_000) for number in range(300)})
        fields += b"Content-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n" % len(tar)
        archive = b"POST /v1/submissions/%s/jobs %s" % (job_id, fields) + tar
        with ThreadPoolExecutor(3) as pool:
            adding = list(pool.map(lambda _: read_response(connect(port, archive))[0], range(3)))
        assert adding == [202] * 3
        upload = (_HEAD % len(image) + image).replace(b"Host: localhost", b"Host: localhost\r\nPrefer: wait=60")
        waiting = [connect(port, upload) for _ in range(count)]
        wait_until(lambda: ledger.stats(QUEUES).queues[INTERACTIVE].queued == count, "all jobs to be recorded")
        process.handle.send_signal(signal.SIGTERM)
        answers = [read_response(sock) for sock in waiting]
        assert {status for status, _ in answers} == {202}, [a for a in answers if a[0] != 202][:2]


@pytest.mark.parametrize("serves", [False, True], ids=["while it checks Redis", "while the serving process starts"])
def test_a_gateway_that_is_stopped_during_startup_exits_promptly(
    tmp_path: Path, clean_redis: str, serves: bool
) -> None:
    def has_child(gateway: psutil.Process) -> bool:
        """Whether the child process of this stage is running."""
        with suppress(psutil.Error):
            return any(("requirements" not in " ".join(child.cmdline())) is serves for child in gateway.children())
        return False

    environ = variables(tmp_path, clean_redis, free_port()) | {"PAWQUEUE_DRAIN_S": "60"}
    with running("gateway", [sys.executable, "-m", "gateway"], tmp_path, environ) as process:
        wait_until(lambda: has_child(psutil.Process(process.handle.pid)), "the child process to start")
        process.handle.send_signal(signal.SIGTERM)
        assert process.handle.wait(30) == 0, process.tail()


def test_a_stopping_gateway_aborts_endless_uploads(tmp_path: Path, clean_redis: str) -> None:
    stop = threading.Event()
    with gateway(tmp_path, clean_redis, PAWQUEUE_DRAIN_S="1") as (port, process):
        endless = connect(port, _HEAD % 10_000_000)
        sender = threading.Thread(target=drip, args=(endless, b"x" * 100, 0.01, stop))
        sender.start()
        process.handle.send_signal(signal.SIGTERM)
        assert process.handle.wait(20) == 0
        stop.set()
        sender.join()
    assert Ledger(patient_client(clean_redis)).stats(QUEUES).queues[INTERACTIVE].queued == 0


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_client_below_the_minimum_rate_is_disconnected_and_a_slow_one_is_not(
    tmp_path: Path, clean_redis: str
) -> None:
    with gateway(tmp_path, clean_redis, "-c", _WITH_A_SHORT_BODY_TIMEOUT) as (port, _):
        stop, dripping = threading.Event(), connect(port, _HEAD % 10_000)
        slow = connect(port, (_HEAD % len(_IMAGE)).replace(b"Host: localhost", b"Host: localhost\r\nConnection: close"))
        dripper = threading.Thread(target=drip, args=(dripping, b"x", 0.05, stop))
        dripper.start()
        for at in range(0, len(_IMAGE), 150):
            threading.Event().wait(0.1)  # 1,500 bytes per second, several times the minimum
            slow.sendall(_IMAGE[at : at + 150])
        assert read_response(slow)[0] == 202
        status, problem = read_response(dripping)
        stop.set()
        dripper.join()
    assert status == 400
    assert problem["code"] == "bad_request"


def test_a_client_that_sends_everything_before_it_reads_gets_the_response(tmp_path: Path, clean_redis: str) -> None:
    with gateway(tmp_path, clean_redis, PAWQUEUE_UPLOAD_MAX_BYTES="100000") as (port, _):
        chunks = b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        long_url = b"GET /" + b"a" * 20_000_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for request, expected, code in (
            (_HEAD % 20_000_000 + bytes(20_000_000), 413, "upload_too_large"),
            (chunks + bytes(20_000_000), 400, "bad_request"),
            (long_url, 414, "url_too_long"),
        ):
            status, problem = read_response(connect(port, request))
            assert (status, problem["code"]) == (expected, code)


@pytest.mark.slow
def test_a_gateway_process_that_hangs_is_replaced(tmp_path: Path, clean_redis: str) -> None:
    with gateway(tmp_path, clean_redis, "-c", _WITH_A_SHORT_WORKER_TIMEOUT) as (port, process):
        (serving,) = psutil.Process(process.handle.pid).children()
        serving.suspend()
        wait_until(lambda: responds(port), "another process to accept requests")
        assert not serving.is_running()


def test_metrics_are_served_only_on_their_own_port_even_if_clients_stall(tmp_path: Path, clean_redis: str) -> None:
    metrics_port = free_port()
    with gateway(tmp_path, clean_redis, PAWQUEUE_GATEWAY_METRICS_PORT=str(metrics_port)) as (port, _):
        # A silent client on each port delays neither the API nor the metrics.
        with connect(port), connect(metrics_port, b"GET"):
            with connect(metrics_port, b"GET /metrics HTTP/1.0\r\n\r\n") as scraper:
                assert b"pawqueue_ledger_up 1.0" in b"".join(iter(lambda: scraper.recv(65_536), b""))
            assert responds(port)
        with connect(port, b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n") as client:
            assert client.recv(100).startswith(b"HTTP/1.1 404")


def test_a_metrics_port_in_use_stops_the_gateway_with_its_setting(tmp_path: Path, clean_redis: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        environ = variables(tmp_path, clean_redis, free_port()) | {"PAWQUEUE_GATEWAY_METRICS_PORT": number}
        with running("gateway", [sys.executable, "-m", "gateway"], tmp_path, environ) as process:
            assert process.handle.wait(60) != 0
            assert "PAWQUEUE_GATEWAY_METRICS_PORT" in process.tail()
