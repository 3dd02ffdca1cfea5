"""The path of jobs through the worker: each job gets its own result, and a bad image does not affect others."""

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bundle.locate import INCLUDED
from bundle.manifest import read_manifest
from bundle.store import StoredVersion
from contract.job import JobStatus, now_ms
from contract.ledger import keys
from contract.ledger.types import Sweep
from contract.queues import INTERACTIVE
from tests.support.brightness import BrightnessModel
from tests.support.images import draw, stored_images
from tests.support.ledger import claim_jobs
from tests.support.services import wait_until
from tests.support.tiff import tiff
from tests.unit.worker.conftest import BATCH_SIZE, Bench, unavailable
from worker.pipeline.gate import ClosedError
from worker.runtime.models import ModelOptions, Models

BRIGHT, DARK = (250, 250, 250), (5, 5, 5)


def test_each_job_gets_its_own_result(bench: Bench) -> None:
    colors = [DARK, BRIGHT, DARK, DARK, BRIGHT, BRIGHT, DARK]
    ids = [bench.submit(draw(color=color)) for color in colors]
    bench.process(*ids)
    labels = [bench.job(job_id).result.prediction.label for job_id in ids]  # type: ignore[union-attr]
    assert labels == ["bright" if color == BRIGHT else "dark" for color in colors]
    assert sum(bench.model.batches) == len(colors)
    assert max(bench.model.batches) == 4


def test_a_result_has_prediction_model_features_and_timings(bench: Bench) -> None:
    job_id = bench.submit(draw((40, 30), BRIGHT))
    bench.process(job_id)
    job = bench.job(job_id)
    result: Any = job.result
    assert (job.status, job.attempts, result.batch_size) == (JobStatus.SUCCEEDED, 1, 1)
    assert (result.model.name, result.model.version) == ("brightness", "1")
    assert result.prediction.confidence == result.prediction.probabilities["bright"] == pytest.approx(0.98, abs=0.01)
    assert (result.features.width, result.features.height) == (40, 30)
    assert result.timings.decode_ms > 0


def test_a_result_has_the_warnings_of_its_image(bench: Bench) -> None:
    doubted, plain = bench.submit(tiff(np.full((8, 8), 4095, np.uint16))), bench.submit(draw())
    bench.process(doubted, plain)
    bench.wait_finished(doubted)
    warnings = [job.result.warnings for job in map(bench.job, (doubted, plain)) if job.result]
    assert warnings == [("sample_range_assumed",), ()]


@pytest.mark.parametrize(
    ("familiarity", "warnings"), [(0.5, ()), (0.01, ()), (0.0099, ("unfamiliar_image",)), (0.0, ("unfamiliar_image",))]
)
def test_an_image_that_the_model_does_not_know_has_a_warning(
    bench: Bench, familiarity: float, warnings: tuple[str, ...]
) -> None:
    bench.model.familiarity = familiarity
    job_id = bench.submit(draw())
    bench.process(job_id)
    result = bench.job(job_id).result
    assert result
    assert result.prediction
    assert result.prediction.familiarity == pytest.approx(familiarity)
    assert result.warnings == warnings


def test_a_model_without_familiarity_gives_none_and_no_warning(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.process(job_id)
    result = bench.job(job_id).result
    assert result
    assert result.prediction
    assert (result.prediction.familiarity, result.warnings) == (None, ())


def test_an_image_has_all_labels_above_the_threshold_if_the_model_gives_several(bench: Bench) -> None:
    bench.model.threshold = 0.3
    job_id = bench.submit(draw(color=(150, 150, 150)))
    bench.process(job_id)
    result = bench.job(job_id).result
    assert result
    assert result.prediction
    assert result.prediction.labels == ["bright", "dark"]
    assert result.to_dict()["prediction"]["labels"] == ["bright", "dark"]


def test_a_tiff_that_cannot_be_read_correctly_fails_with_the_reason(bench: Bench) -> None:
    job_id = bench.submit(tiff(np.zeros((8, 8, 3), np.uint16), 2, planar=True))
    bench.process(job_id)
    bench.wait_finished(job_id)
    error = bench.error_of(job_id)
    assert (error.code, "save it with PlanarConfiguration 1" in error.detail) == ("undecodable_image", True)


def test_an_undecodable_image_fails_and_the_others_succeed(bench: Bench) -> None:
    good, bad, other = bench.submit(draw()), bench.submit(draw()[:50]), bench.submit(draw())
    bench.process(good, bad, other)
    assert bench.error_of(bad).code == "undecodable_image"
    assert [bench.job(job_id).status for job_id in (good, other)] == [JobStatus.SUCCEEDED] * 2


def test_an_image_that_the_model_cannot_predict_fails_and_the_others_succeed(bench: Bench) -> None:
    bench.model.fails_from = 200
    dark, bright = [bench.submit(draw(color=DARK)) for _ in range(3)], bench.submit(draw(color=BRIGHT))
    bench.process(*dark, bright)
    assert bench.error_of(bright).code == "predict_failed"
    assert "too bright" not in bench.error_of(bright).detail
    assert all(bench.job(job_id).status is JobStatus.SUCCEEDED for job_id in dark)


@pytest.mark.parametrize("shape", [(1, 2), (3, 3), (3,)])
def test_an_output_of_the_wrong_shape_is_rejected(bench: Bench, shape: tuple[int, ...]) -> None:
    bench.model.output_shape = shape
    ids = [bench.submit(draw()) for _ in range(3)]
    bench.process(*ids)
    # One row is correct for a batch of one, so the retries with single images succeed.
    statuses = {bench.job(job_id).status for job_id in ids}
    assert statuses == ({JobStatus.SUCCEEDED} if shape == (1, 2) else {JobStatus.FAILED})


def test_a_job_fails_if_its_image_is_missing(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.images.delete([bench.job(job_id).image])
    bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.FAILED


@pytest.mark.parametrize("cut", [0.05, 0.5, 0.95])
def test_jobs_whose_images_a_crash_left_incomplete_fail_alone(bench: Bench, cut: float) -> None:
    ids = [bench.submit(draw((64, 48), form="BMP")) for _ in range(8)]
    (segment,) = bench.folder.iterdir()
    os.truncate(segment, int(segment.stat().st_size * cut))
    bench.process(*ids)
    jobs = [bench.job(job_id) for job_id in ids]
    whole = int(8 * cut)
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * whole + [JobStatus.FAILED] * (8 - whole)
    for job in jobs[whole:]:
        assert job.result
        assert job.result.error
        assert "it is no longer in the image store" in job.result.error.detail


def test_jobs_of_other_workers_are_skipped(bench: Bench) -> None:
    held, ours = bench.submit(draw()), bench.submit(draw())
    claim_jobs(bench.ledger, [held], 60_000, 60)
    bench.process(held, ours)
    assert bench.job(held).status is JobStatus.RUNNING
    assert bench.job(ours).status is JobStatus.SUCCEEDED


def test_two_tickets_at_once_predict_each_image_once(bench: Bench) -> None:
    ids = [bench.submit(draw()) for _ in range(4)]
    threads = [threading.Thread(target=bench.process, args=ids) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sum(bench.model.batches) == 4
    assert all(bench.job(job_id).attempts == 1 for job_id in ids)


def test_a_job_past_its_deadline_expires_without_a_prediction(bench: Bench) -> None:
    late = bench.submit(draw(), deadline_ms=now_ms() - 1)
    bench.process(late)
    assert bench.job(late).status is JobStatus.EXPIRED
    assert bench.model.batches == []


def test_finished_jobs_leave_no_images_and_no_leases(bench: Bench) -> None:
    costly = bench.submit(b"broken")
    bench.process(bench.submit(draw()), costly)
    bench.wait_finished(costly)
    wait_until(lambda: not stored_images(bench.folder), "the images to be deleted", 10)
    assert bench.worker.leases.held() == []


def test_calls_are_retried_while_the_ledger_is_unavailable(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.ledger.errors = {"claim": [unavailable()], "commit": [unavailable()]}
    bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.SUCCEEDED
    assert not any(bench.ledger.errors.values())
    assert bench.ledger.calls["commit"] == 2


def test_a_stopping_worker_does_not_wait_for_an_unavailable_ledger(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.ledger.errors = {"claim": [unavailable() for _ in range(1000)]}
    stopping = threading.Timer(0.1, bench.worker.pipeline.drain)
    stopping.start()
    with pytest.raises(ClosedError):
        bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.QUEUED


def test_a_stopping_worker_starts_no_jobs(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.worker.pipeline.drain()
    with pytest.raises(ClosedError):
        bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.QUEUED


def test_jobs_are_retried_after_an_unexpected_error(bench: Bench) -> None:
    job_id = bench.submit(draw())
    bench.images.fails = True
    with pytest.raises(RuntimeError):
        bench.process(job_id)
    bench.images.fails = False
    assert bench.worker.leases.held() == []
    bench.ledger.recover(Sweep(INTERACTIVE, max_attempts=3, ttl_s=60), now_ms() + 11_000)
    bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.SUCCEEDED
    assert bench.job(job_id).attempts == 1, "the error is no reason to suspect the image"


def test_results_are_still_written_after_an_unexpected_error(bench: Bench) -> None:
    first = bench.submit(draw())
    bench.ledger.errors = {"commit": [RuntimeError("surprise")]}
    bench.process(first)
    assert (bench.job(first).status, bench.worker.leases.held()) == (JobStatus.RUNNING, [])
    second = bench.submit(draw())
    bench.process(second)
    assert bench.job(second).status is JobStatus.SUCCEEDED


def test_metrics_count_predicted_images(bench: Bench) -> None:
    bench.process(*[bench.submit(draw()) for _ in range(3)])
    read, model = bench.metrics.registry.get_sample_value, {"model": "brightness"}
    assert read("pawqueue_worker_images_total", model) == 3
    assert read("pawqueue_job_seconds_count", {**model, "queue": "interactive", "phase": "total"}) == 3
    assert read("pawqueue_batch_size_sum", model) == 3


def test_a_job_that_is_purged_while_it_is_predicted_leaves_nothing(bench: Bench) -> None:
    purged, kept = bench.submit(draw(), file="secret.jpg"), bench.submit(draw())
    bench.model.during_call = lambda: bench.ledger.purge([purged], 60)
    bench.worker.thumbnailer.start()
    bench.process(purged, kept)
    bench.worker.thumbnailer.stop()
    assert bench.job(kept).status is JobStatus.SUCCEEDED
    assert not bench.ledger.client.exists(keys.job(purged), keys.thumbnail(purged))
    assert [job_id for _, job_id in bench.ledger.recent(10)] == [kept]


def test_an_image_that_could_not_be_deleted_is_marked_for_deletion(bench: Bench) -> None:
    job_id = bench.submit(draw())
    ref = bench.job(job_id).image
    (segment,) = bench.folder.iterdir()

    def block() -> None:
        segment.unlink()
        segment.mkdir()  # cannot be opened like a file

    bench.model.during_call = block
    bench.process(job_id)
    assert bench.job(job_id).status is JobStatus.SUCCEEDED
    assert bench.ledger.discarded(10) == [ref]


def test_a_worker_claims_more_while_it_predicts(bench: Bench) -> None:
    first, later = bench.submit(draw()), list[str]()

    def submit_more() -> None:
        if not later:
            later.append(bench.submit(draw()))
            wait_until(lambda: bench.job(later[0]).status is JobStatus.RUNNING, "the second job to be claimed", 20)

    bench.model.during_call = submit_more
    bench.process(first)
    assert [bench.job(job_id).status for job_id in (first, *later)] == [JobStatus.SUCCEEDED] * 2
    assert bench.model.batches == [1, 1]


def test_a_worker_leaves_jobs_for_others_while_it_has_two_batches(bench: Bench) -> None:
    ids = [bench.submit(draw()) for _ in range(3 * BATCH_SIZE)]
    running: list[int] = []

    def count_running() -> None:
        if not running:
            read = bench.ledger.stats
            wait_until(lambda: read([INTERACTIVE]).queues[INTERACTIVE].running == 2 * BATCH_SIZE, "two batches", 20)
            threading.Event().wait(0.1)  # it would claim more in this time
            running.append(read([INTERACTIVE]).queues[INTERACTIVE].running)

    bench.model.during_call = count_running
    bench.process(*ids)
    assert running == [2 * BATCH_SIZE]
    assert bench.model.batches[:2] == [BATCH_SIZE] * 2


def test_a_job_whose_model_is_being_loaded_has_no_attempt(make_bench: Callable[..., Bench]) -> None:
    loaded, manifest = threading.Event(), read_manifest(INCLUDED)

    def load(*_: Any) -> Any:
        loaded.wait(20)
        return BrightnessModel()

    base = StoredVersion(manifest.name, manifest.version, INCLUDED)
    models = Models(load, ModelOptions(base=base, default=base.name))
    models.refresh()
    bench = make_bench(models=models)
    models.changed = bench.worker.pipeline.models_changed
    models.start()
    job_id = bench.submit(draw())
    thread = threading.Thread(target=bench.process, args=[job_id])
    thread.start()

    def waits() -> bool:
        job = bench.job(job_id)
        return job.status is JobStatus.RUNNING and not job.attempts

    wait_until(waits, "the job waiting for its model, without an attempt", 20)
    loaded.set()
    thread.join(20)
    models.stop()
    assert (bench.job(job_id).status, bench.job(job_id).attempts) == (JobStatus.SUCCEEDED, 1)
