"""How a worker handles images that take too long to decode, and a model that hangs."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from bundle.decode import DecodedImage, decode
from contract.job import JobStatus
from tests.support.images import draw
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench
from worker.upkeep.watchdog import Watchdog


class HeldDecode:
    """Decodes images, but blocks on the image `held` until `release` is set."""

    def __init__(self, held: bytes) -> None:
        self.entered, self.release = threading.Semaphore(0), threading.Event()
        self._held = held

    def __call__(self, data: bytes, *target: Any) -> DecodedImage:
        if data == self._held:
            self.entered.release()
            assert self.release.wait(30)
        return decode(data, *target)


class FakeExit:
    """Records the exit status instead of ending the process."""

    def __init__(self) -> None:
        self.status: list[int] = []
        self.called = threading.Event()

    def __call__(self, status: int) -> None:
        self.status.append(status)
        self.called.set()


SLOW, GOOD = draw(color=(1, 2, 3)), draw()


@pytest.fixture
def held() -> Any:
    decode = HeldDecode(SLOW)
    yield decode
    decode.release.set()


def test_an_image_that_decodes_too_slowly_fails_and_others_succeed(
    make_bench: Callable[..., Bench], held: HeldDecode
) -> None:
    bench = make_bench(decode_limit_s=0.05, decode=held)
    slow, good = bench.submit(SLOW), bench.submit(GOOD)
    work = threading.Thread(target=bench.process, args=[slow])
    work.start()
    assert held.entered.acquire(timeout=10)
    bench.worker.watchdog.start()
    work.join(20)
    job = bench.job(slow)
    assert job.status is JobStatus.FAILED
    assert bench.error_of(slow).code == "undecodable_image"
    assert "longer than" in bench.error_of(slow).detail
    bench.process(good)
    assert bench.job(good).status is JobStatus.SUCCEEDED
    held.release.set()
    bench.worker.watchdog.stop()
    bench.process(bench.submit(GOOD))
    assert bench.job(slow) == job


def test_a_health_check_does_not_fail_slow_images(make_bench: Callable[..., Bench], held: HeldDecode) -> None:
    bench = make_bench(decode_limit_s=0.001, decode=held)
    slow = bench.submit(SLOW)
    work = threading.Thread(target=bench.process, args=[slow])
    work.start()
    assert held.entered.acquire(timeout=10)
    threading.Event().wait(0.01)
    assert bench.worker.watchdog.problem() == ""
    held.release.set()
    work.join(20)
    assert bench.job(slow).status is JobStatus.SUCCEEDED


def test_a_worker_whose_decode_threads_all_hang_commits_their_errors_and_exits(
    make_bench: Callable[..., Bench], held: HeldDecode
) -> None:
    end = FakeExit()
    bench = make_bench(decode_limit_s=0.05, decode=held, end_process=end)
    slow = [bench.submit(SLOW) for _ in range(2)]
    work = threading.Thread(target=bench.process, args=slow)
    work.start()
    for _ in slow:
        assert held.entered.acquire(timeout=10)
    bench.worker.watchdog.start()
    assert end.called.wait(20)
    assert end.status == [70]
    assert "decoding thread" in bench.worker.watchdog.problem()
    work.join(20)
    assert [bench.job(job_id).status for job_id in slow] == [JobStatus.FAILED] * 2
    held.release.set()
    wait_until(lambda: bench.worker.watchdog.problem() == "", "the decode threads to be free again", 10)


def test_the_process_exits_if_the_model_hangs() -> None:
    end, running_s = FakeExit(), [0.0]
    watchdog = Watchdog(
        lambda: running_s[0], 0.2, fail_slow_images=lambda: None, decoders_stuck=lambda: False, end_process=end
    )
    watchdog.start()
    assert not end.called.wait(0.3)
    running_s[0] = 0.21
    assert end.called.wait(10)
    assert end.status == [70]
    assert "model call" in watchdog.problem()


def test_the_duration_of_the_current_model_call_is_measured(bench: Bench) -> None:
    seen: list[float] = []

    def measure() -> None:
        threading.Event().wait(0.02)
        seen.append(bench.worker.pipeline.predictor.running_s())

    bench.model.during_call = measure
    bench.process(bench.submit(draw()))
    assert seen[0] >= 0.02
    assert bench.worker.pipeline.predictor.running_s() == 0
