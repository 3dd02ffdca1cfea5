"""A message's way through the worker: one result a job, paired by id, bad images failing alone."""

import threading
from typing import Any

import pytest

from contract.broker import INTERACTIVE
from contract.errors import UnavailableError
from contract.job import JobStatus, new_job_id
from tests.support.images import draw
from tests.unit.worker.conftest import Bench
from worker.gate import ClosedError

BRIGHT, DARK = (250, 250, 250), (5, 5, 5)


def test_each_job_gets_its_own_result(bench: Bench) -> None:
    colors = [DARK, BRIGHT, DARK, DARK, BRIGHT, BRIGHT, DARK]
    ids = [bench.submit(draw(color=color)) for color in colors]
    bench.pipeline.process(INTERACTIVE, ids)
    labels = [bench.job(job_id).result.prediction.label for job_id in ids]  # type: ignore[union-attr]
    assert labels == ["bright" if color == BRIGHT else "dark" for color in colors]
    assert sum(bench.model.batches) == len(colors)
    assert max(bench.model.batches) == 4


def test_a_result_carries_all_that_is_known(bench: Bench) -> None:
    job_id = bench.submit(draw((40, 30), BRIGHT))
    bench.pipeline.process(INTERACTIVE, [job_id])
    job = bench.job(job_id)
    result = job.result
    assert result
    assert result.prediction
    assert (job.status, job.attempts, result.batch_size) == (JobStatus.SUCCEEDED, 1, 1)
    assert result.model
    assert (result.model.name, result.model.version) == ("brightness", "1")
    assert result.prediction.confidence == result.prediction.probabilities["bright"] == pytest.approx(0.98, abs=0.01)
    assert result.features
    assert (result.features.width, result.features.height) == (40, 30)
    assert result.timings
    assert result.timings.decode_ms > 0


def test_an_undecodable_image_fails_alone(bench: Bench) -> None:
    good, bad, other = bench.submit(draw()), bench.submit(draw()[:50]), bench.submit(draw())
    bench.pipeline.process(INTERACTIVE, [good, bad, other])
    result = bench.job(bad).result
    assert result
    assert result.error
    assert result.error.code == "undecodable_image"
    assert [bench.job(job_id).status for job_id in (good, other)] == [JobStatus.SUCCEEDED] * 2


def test_an_image_that_breaks_the_model_fails_alone(bench: Bench) -> None:
    bench.model.fails_from = 200
    dark, bright = [bench.submit(draw(color=DARK)) for _ in range(3)], bench.submit(draw(color=BRIGHT))
    bench.pipeline.process(INTERACTIVE, [*dark, bright])
    result = bench.job(bright).result
    assert result
    assert result.error
    assert result.error.code == "predict_failed"
    assert "too bright" not in result.error.detail
    assert all(bench.job(job_id).status is JobStatus.SUCCEEDED for job_id in dark)


@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (3,)])
def test_a_model_that_answers_for_another_batch_is_not_believed(bench: Bench, shape: tuple[int, ...]) -> None:
    bench.model.answer_shape = shape
    ids = [bench.submit(draw()) for _ in range(3)]
    bench.pipeline.process(INTERACTIVE, ids)
    # A batch of one may be answered by one row: then each was tried singly and paired rightly.
    statuses = {bench.job(job_id).status for job_id in ids}
    assert statuses == ({JobStatus.SUCCEEDED} if shape == (1, 2) else {JobStatus.FAILED})


def test_an_image_that_is_gone_is_an_error_not_a_hang(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.images.delete([bench.job(job_id).image])
    bench.pipeline.process(INTERACTIVE, [job_id])
    assert bench.job(job_id).status is JobStatus.FAILED


def test_jobs_of_others_and_unknown_ids_are_passed_over(bench: Bench) -> None:
    held, ours = bench.submit(draw()), bench.submit(draw())
    bench.ledger.claim([held], 60_000, 60)
    bench.pipeline.process(INTERACTIVE, [held, ours, new_job_id()])
    assert bench.job(held).status is JobStatus.RUNNING
    assert bench.job(ours).status is JobStatus.SUCCEEDED


def test_a_message_delivered_twice_is_answered_once(bench: Bench) -> None:
    ids = [bench.submit(draw()) for _ in range(4)]
    threads = [threading.Thread(target=bench.pipeline.process, args=(INTERACTIVE, ids)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(bench.model.batches) == 4
    assert all(bench.job(job_id).attempts == 1 for job_id in ids)


def test_pictures_and_leases_are_freed_at_the_end(bench: Bench) -> None:
    bench.pipeline.process(INTERACTIVE, [bench.submit(draw()), bench.submit(b"broken")])
    assert not bench.images._images
    assert not bench.pipeline.leases._held


def test_while_the_ledger_is_gone_the_worker_waits_and_then_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, failures = bench.submit(draw()), iter([True, False])
    monkeypatch.setattr("worker.pipeline._RETRY_S", 0.01)
    monkeypatch.setattr("worker.committer._RETRY_S", 0.01)
    for method in ("claim", "commit"):
        monkeypatch.setattr(bench.ledger, method, fail_once(getattr(bench.ledger, method)))
    bench.pipeline.process(INTERACTIVE, [job_id])
    assert bench.job(job_id).status is JobStatus.SUCCEEDED
    assert next(failures)


def fail_once(method: Any) -> Any:
    calls = iter([True])

    def guarded(*arguments: Any) -> Any:
        if next(calls, False):
            raise UnavailableError("The ledger does not answer; try again.")
        return method(*arguments)

    return guarded


def test_a_stopping_worker_begins_nothing(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.pipeline.drain()
    with pytest.raises(ClosedError):
        bench.pipeline.process(INTERACTIVE, [job_id])
    assert bench.job(job_id).status is JobStatus.QUEUED


def test_metrics_count_what_was_done(bench: Bench) -> None:
    bench.pipeline.process(INTERACTIVE, [bench.submit(draw()) for _ in range(3)])
    read = bench.metrics.registry.get_sample_value
    assert read("pawqueue_worker_images_total") == 3
    assert read("pawqueue_job_seconds_count", {"queue": "interactive", "phase": "total"}) == 3
    assert read("pawqueue_batch_size_sum") == 3
