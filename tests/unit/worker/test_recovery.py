"""What a worker does about lost jobs, deadly images and a hanging model."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from contract.broker import BULK, INTERACTIVE, MESSAGE_MAX_JOBS
from contract.errors import UnavailableError
from contract.images.store import FileImageStore, ImageStore
from contract.job import Job, JobStatus, new_job_id, now_ms
from contract.ledger.types import Sweep
from tests.support.images import draw
from tests.support.ledger import store
from tests.support.services import wait_until
from tests.support.twin.ledger_memory import MemoryLedger
from tests.support.twin.stores import MemoryImageStore
from tests.unit.worker.conftest import Bench
from worker.reconciler import Reconciler
from worker.turnstile import Turnstile
from worker.watchdog import Watchdog


class Messages:
    """Stands in for the broker."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[str]]] = []

    def publish(self, queue: str, job_ids: object) -> None:
        self.sent.append((queue, list(job_ids)))  # type: ignore[call-overload]


def reconciler_of(ledger: MemoryLedger, images: ImageStore, messages: Messages, **options: object) -> Reconciler:
    values = {
        "worker_id": "w",
        "sweep_s": 0.02,
        "grace_s": 0.0,
        "max_attempts": 3,
        "result_ttl_s": 60,
        "image_ttl_s": 60,
    } | options
    return Reconciler(ledger, images, messages.publish, lambda _queue: 0, **values)  # type: ignore[arg-type]


def submit(ledger: MemoryLedger, count: int = 1, queue: str = INTERACTIVE, image: str = "") -> list[str]:
    jobs = [Job(new_job_id(), queue, now_ms(), image=image) for _ in range(count)]
    store(ledger, jobs, 10_000)
    return [job.id for job in jobs]


def test_jobs_without_a_message_get_messages_of_bounded_size() -> None:
    ledger, messages = MemoryLedger(), Messages()
    ids = submit(ledger, 40) + submit(ledger, 2, BULK)
    assert reconciler_of(ledger, MemoryImageStore(), messages).sweep() == 42
    assert sorted(job_id for _, sent in messages.sent for job_id in sent) == sorted(ids)
    assert [len(sent) for _, sent in messages.sent] == [MESSAGE_MAX_JOBS, 8, 2]
    assert [queue for queue, _ in messages.sent] == [INTERACTIVE, INTERACTIVE, BULK]


def test_only_the_leader_sweeps() -> None:
    ledger, messages = MemoryLedger(), Messages()
    submit(ledger)
    ledger.lead("another", 60_000)
    assert reconciler_of(ledger, MemoryImageStore(), messages).sweep() == 0
    assert not messages.sent


def test_discarded_images_are_deleted() -> None:
    ledger, images = MemoryLedger(), MemoryImageStore()
    ref = images.put(b"bytes")
    (job_id,) = submit(ledger, image=ref)
    ledger.cancel([job_id], 60)
    reconciler_of(ledger, images, Messages()).sweep()
    assert images.get([ref]) == [None]


def test_old_images_that_nobody_came_for_are_deleted(tmp_path: Path) -> None:
    images = FileImageStore(tmp_path)
    old, new = images.put(b"old"), images.put(b"new")
    os.utime(tmp_path / old[:2] / old, (0, 0))
    reconciler_of(MemoryLedger(), images, Messages()).sweep()
    assert images.get([old, new]) == [None, b"new"]


def test_it_outlives_an_outage_and_any_surprise(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, messages = MemoryLedger(), Messages()
    errors = iter([UnavailableError("The ledger does not answer; try again."), RuntimeError("surprise")])
    lead = ledger.lead

    def flaky(worker_id: str, ttl_ms: int) -> bool:
        if error := next(errors, None):
            raise error
        return lead(worker_id, ttl_ms)

    monkeypatch.setattr(ledger, "lead", flaky)
    submit(ledger)
    reconciler = reconciler_of(ledger, MemoryImageStore(), messages)
    reconciler.start()
    wait_until(lambda: bool(messages.sent), "the job being queued again", 10)
    reconciler.stop()


def test_a_suspect_is_tried_with_no_other_job_in_hand(bench: Bench) -> None:
    suspects = [bench.submit(draw()) for _ in range(3)]
    bench.ledger.begin([claim for claim in bench.ledger.claim(suspects, 1, 60, now_ms() - 1000) if claim])
    reconciler_of(bench.ledger, bench.images, Messages()).sweep()
    others = [bench.submit(draw()) for _ in range(5)]
    bench.pipeline.process(INTERACTIVE, [*others, *suspects])
    assert all(bench.job(job_id).status is JobStatus.SUCCEEDED for job_id in suspects + others)
    assert [bench.job(job_id).result.batch_size for job_id in suspects] == [1, 1, 1]  # type: ignore[union-attr]
    assert [bench.job(job_id).attempts for job_id in suspects] == [2, 2, 2]


def test_a_job_past_its_deadline_takes_no_batch_slot(bench: Bench) -> None:
    late = bench.submit(draw())
    bench.ledger._jobs[late] = replace(bench.job(late), deadline_ms=now_ms() - 1)
    bench.pipeline.process(INTERACTIVE, [late])
    assert bench.job(late).status is JobStatus.EXPIRED
    assert bench.model.batches == []


def test_alone_means_alone() -> None:
    turnstile, inside, seen_alone = Turnstile(), [0], set()
    lock = threading.Lock()

    def stay(*, alone: bool) -> None:
        with turnstile.alone() if alone else turnstile.together():
            with lock:
                inside[0] += 10 if alone else 1
            threading.Event().wait(0.005)
            with lock:
                if alone:
                    seen_alone.add(inside[0])
                inside[0] -= 10 if alone else 1

    threads = [threading.Thread(target=stay, kwargs={"alone": number % 4 == 0}) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert seen_alone == {10}


def test_a_hanging_model_ends_the_process() -> None:
    ended, status = threading.Event(), []

    def end(code: int) -> None:
        status.append(code)
        ended.set()

    running_s = [0.0]
    watchdog = Watchdog(lambda: running_s[0], limit_s=0.2, end=end)
    watchdog.start()
    assert not ended.wait(0.3)
    running_s[0] = 0.21
    assert ended.wait(10)
    assert status == [70]


def test_the_running_call_is_seen_from_outside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    predict = bench.model.predict

    def slow(pixels: object) -> object:
        threading.Event().wait(0.02)
        seen.append(bench.pipeline.predictor.running_s())
        return predict(pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.model, "predict", slow)
    bench.pipeline.process(INTERACTIVE, [bench.submit(draw())])
    assert seen[0] >= 0.02
    assert bench.pipeline.predictor.running_s() == 0


def test_jobs_that_a_surprise_left_behind_are_not_held_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: object) -> None:
        raise RuntimeError("surprise")

    job_id = bench.submit(draw())
    with monkeypatch.context() as patch:
        patch.setattr(bench.images, "get", surprise)
        with pytest.raises(RuntimeError):
            bench.pipeline.process(INTERACTIVE, [job_id])
    assert bench.pipeline.leases.held() == []
    bench.ledger.recover(Sweep(INTERACTIVE, 0, 0, 3, 60), now_ms() + 11_000)
    bench.pipeline.process(INTERACTIVE, [job_id])
    assert bench.job(job_id).status is JobStatus.SUCCEEDED


def test_results_that_a_surprise_left_behind_do_not_end_the_committer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def surprise(*_: object) -> None:
        raise RuntimeError("surprise")

    first, second = bench.submit(draw()), bench.submit(draw())
    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "commit", surprise)
        bench.pipeline.process(INTERACTIVE, [first])
    assert (bench.job(first).status, bench.pipeline.leases.held()) == (JobStatus.RUNNING, [])
    bench.pipeline.process(INTERACTIVE, [second])
    assert bench.job(second).status is JobStatus.SUCCEEDED


def test_after_an_outage_workers_get_the_time_to_renew_their_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, waits, swept = MemoryLedger(), [], threading.Event()
    reconciler = reconciler_of(ledger, MemoryImageStore(), Messages(), sweep_s=0.01, grace_s=0.2)
    answers = iter([UnavailableError("The ledger does not answer; try again."), False, False])
    wait = reconciler._stopping.wait

    def answer(*_: object, **__: object) -> bool:
        result = next(answers, None)
        if isinstance(result, Exception):
            raise result
        if result is None:
            swept.set()
        return False

    def watched(pause_s: float) -> bool:
        waits.append(pause_s)
        return wait(pause_s)

    monkeypatch.setattr(ledger, "lead", answer)
    monkeypatch.setattr(reconciler._stopping, "wait", watched)
    reconciler.start()
    assert swept.wait(10)
    reconciler.stop()
    assert waits[:3] == [0.01, 0.1, 0.01]
