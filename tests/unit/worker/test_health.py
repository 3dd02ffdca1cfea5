"""The health checks and metrics that a worker serves."""

import socket
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, closing

import pytest
from prometheus_client import CollectorRegistry

from contract.metrics_port import serve_metrics
from tests.support.services import wait_until
from worker.upkeep.health import Health, check_threads, health_app
from worker.upkeep.metrics import WorkerMetrics


@pytest.fixture
def served() -> tuple[Health, str]:
    """The health of a worker, and the URL at which it is served."""
    health = Health()
    port = serve_metrics("127.0.0.1", 0, health_app(WorkerMetrics(4).registry, health))
    return health, f"http://127.0.0.1:{port}"


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_worker_is_alive_from_the_start_and_ready_between_loading_and_stopping(served: tuple[Health, str]) -> None:
    health, url = served
    assert get(f"{url}/healthz") == (200, "ok\n")
    assert get(f"{url}/readyz") == (503, "The model is being loaded.\n")
    health.go_live(alive=lambda: "", ready=lambda: "")
    assert get(f"{url}/readyz") == (200, "ok\n")
    health.drain()
    assert get(f"{url}/healthz") == (200, "ok\n")
    status, text = get(f"{url}/readyz")
    assert status == 503
    assert "stopping" in text


def test_a_worker_that_hangs_is_neither_alive_nor_ready(served: tuple[Health, str]) -> None:
    health, url = served
    health.go_live(alive=lambda: "It hangs.", ready=lambda: "")
    assert get(f"{url}/healthz") == (503, "It hangs.\n")
    assert get(f"{url}/readyz") == (503, "It hangs.\n")


def test_a_worker_without_a_connection_is_alive_but_not_ready(served: tuple[Health, str]) -> None:
    health, url = served
    health.go_live(alive=lambda: "", ready=lambda: "Redis does not respond.")
    assert get(f"{url}/healthz")[0] == 200
    assert get(f"{url}/readyz") == (503, "Redis does not respond.\n")


def test_metrics_are_served_on_the_same_port(served: tuple[Health, str]) -> None:
    status, text = get(f"{served[1]}/metrics")
    assert status == 200
    assert "pawqueue_worker_busy_ratio" in text


def test_silent_connections_make_room_for_new_ones(served: tuple[Health, str]) -> None:
    _, url = served
    threads = threading.active_count()
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(socket.create_connection(address, 10))) for _ in range(100)]
        assert get(f"{url}/healthz") == (200, "ok\n")
        assert silent[0].recv(1) == b""
        wait_until(lambda: threading.active_count() - threads < 50, "displaced connections to be closed", 5)
        silent[-1].settimeout(0.1)
        with pytest.raises(TimeoutError):
            silent[-1].recv(1)  # still open


def test_a_port_in_use_raises_an_error() -> None:
    app = health_app(CollectorRegistry(), Health())
    port = serve_metrics("127.0.0.1", 0, app)
    with pytest.raises(OSError, match="in use"):
        serve_metrics("127.0.0.1", port, app)


def test_the_check_names_a_stopped_thread() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="of-this-test")
    thread.start()
    assert check_threads(["of-this-test"]) == ""
    stop.set()
    thread.join()
    assert "of-this-test" in check_threads(["of-this-test"])
