"""What a worker answers when it is asked how it is."""

import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from contract.broker import INTERACTIVE
from contract.job import JobStatus
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench
from worker.decoding import DecodeWatch
from worker.health import Health, check_threads, serve_health
from worker.metrics import WorkerMetrics
from worker.watchdog import Watchdog


@pytest.fixture
def asked() -> tuple[Health, str]:
    """How it is, and where to ask."""
    health = Health()
    port = serve_health("127.0.0.1", 0, WorkerMetrics(4).registry, health)
    return health, f"http://127.0.0.1:{port}"


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_lives_from_the_start_and_is_ready_while_it_serves(asked: tuple[Health, str]) -> None:
    health, url = asked
    assert ask(f"{url}/healthz") == (200, "ok\n")
    assert ask(f"{url}/readyz") == (503, "The model is being loaded.\n")
    health.serve(alive=lambda: "", ready=lambda: "")
    assert ask(f"{url}/readyz") == (200, "ok\n")
    health.drain()
    assert ask(f"{url}/healthz") == (200, "ok\n")
    assert ask(f"{url}/readyz")[0] == 503


def test_one_that_hangs_neither_lives_nor_is_ready(asked: tuple[Health, str]) -> None:
    health, url = asked
    health.serve(alive=lambda: "It hangs.", ready=lambda: "")
    assert ask(f"{url}/healthz") == (503, "It hangs.\n")
    assert ask(f"{url}/readyz") == (503, "It hangs.\n")


def test_one_that_hears_nothing_lives_but_is_not_ready(asked: tuple[Health, str]) -> None:
    health, url = asked
    health.serve(alive=lambda: "", ready=lambda: "Redis does not answer.")
    assert ask(f"{url}/healthz")[0] == 200
    assert ask(f"{url}/readyz") == (503, "Redis does not answer.\n")


def test_metrics_are_read_on_the_same_port(asked: tuple[Health, str]) -> None:
    status, text = ask(f"{asked[1]}/metrics")
    assert status == 200
    assert "pawqueue_worker_busy_ratio" in text


def test_a_port_that_is_taken_is_told() -> None:
    health, registry = Health(), CollectorRegistry()
    port = serve_health("127.0.0.1", 0, registry, health)
    with pytest.raises(OSError, match="in use"):
        serve_health("127.0.0.1", port, registry, health)


def test_a_thread_that_ended_is_named() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="lives-in-a-test")
    thread.start()
    assert check_threads(["lives-in-a-test"]) == ""
    stop.set()
    thread.join()
    assert "lives-in-a-test" in check_threads(["lives-in-a-test"])


def test_an_image_that_takes_too_long_fails_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, release = threading.Event(), threading.Event()

    def endless(*_: object) -> None:
        entered.set()
        assert release.wait(20)

    slow, good = bench.submit(draw()), bench.submit(draw())
    bench.pipeline.decode_limit_s = 0.05
    with monkeypatch.context() as patch:
        patch.setattr("worker.pipeline._fill", endless)
        work = threading.Thread(target=bench.pipeline.process, args=(INTERACTIVE, [slow]))
        work.start()
        assert entered.wait(10)
    wait_until(lambda: not bench.pipeline.give_up_slow_images() or bench.job(slow).status.is_final, "giving up", 10)
    work.join(10)
    job = bench.job(slow)
    assert job.result
    assert job.result.error
    assert (job.status, job.result.error.code) == (JobStatus.FAILED, "undecodable_image")
    assert "longer than" in job.result.error.detail
    bench.pipeline.process(INTERACTIVE, [good])
    assert bench.job(good).status is JobStatus.SUCCEEDED
    release.set()
    wait_until(lambda: bench.pipeline.decoding.is_stuck() is False, "the thread coming back", 10)
    assert bench.job(slow) == job


def test_a_worker_whose_decoders_are_all_stuck_ends() -> None:
    now_s = [0.0]
    watch, items = DecodeWatch(2, clock=lambda: now_s[0]), [object(), object()]
    for item in items:
        watch.begin(item)  # type: ignore[arg-type]
    now_s[0] = 10.0
    assert watch.overdue(11) == []
    assert watch.overdue(9) == items
    assert watch.is_stuck()
    watchdog = Watchdog(lambda: 0.0, 60, can_decode=lambda: not watch.is_stuck())
    assert "decoder" in watchdog.hang()
    assert not watch.end(items[0])  # type: ignore[arg-type]
    assert watchdog.hang() == ""
