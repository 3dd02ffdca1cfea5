"""Which images a worker keeps for review."""

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
import redis
from PIL import Image

from contract.ledger import keys
from contract.ledger.reviews import KeptImage, ReviewCounts, ReviewReason
from tests.support.images import draw, stored_images
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench, unavailable

#: Confidence 0.6 for `bright` or `dark`, and 0.9.
DOUBTFUL, CLEAR = draw(color=(153, 153, 153)), draw(color=(230, 230, 230))


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(review_below=0.7)


def kept(bench: Bench) -> list[KeptImage]:
    return [image for _, image in bench.ledger.reviews.after(0, "", 100)]


def finish(bench: Bench, *images: bytes) -> list[str]:
    """Process images, and wait until they have been kept or deleted."""
    job_ids = [bench.submit(data, owner="ada", file="a.png") for data in images]
    refs = [bench.job(job_id).image for job_id in job_ids]
    bench.process(*job_ids)
    wait_until(lambda: not any(bench.images.get(refs)), "the images to be deleted", 30)
    return job_ids


def test_the_image_of_a_doubtful_result_is_kept_and_that_of_a_clear_one_is_not(bench: Bench) -> None:
    doubtful, _ = finish(bench, DOUBTFUL, CLEAR)
    (image,) = kept(bench)
    assert (image.job_id, image.reason, image.owner, image.file) == (
        doubtful,
        ReviewReason.LOW_CONFIDENCE,
        "ada",
        "a.png",
    )
    assert (image.predicted, round(image.confidence, 1), image.model, image.preview) == (
        "bright",
        0.6,
        "brightness",
        "",
    )
    assert bench.images.get([image.image]) == [DOUBTFUL]
    assert image.size_bytes == len(DOUBTFUL)


def test_by_default_no_image_is_kept(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench()
    finish(bench, DOUBTFUL)
    assert not kept(bench)
    assert not stored_images(bench.folder)


def test_an_unfamiliar_image_is_kept_even_if_its_confidence_is_high(bench: Bench) -> None:
    bench.model.familiarity = 0.0
    finish(bench, CLEAR)
    assert [image.reason for image in kept(bench)] == [ReviewReason.UNFAMILIAR]


def test_a_failed_job_leaves_no_image(bench: Bench) -> None:
    finish(bench, DOUBTFUL[:60])
    assert not kept(bench)


def test_an_image_that_browsers_cannot_show_has_a_preview(bench: Bench) -> None:
    finish(bench, draw((60, 30), (153, 153, 153), "TIFF"))
    (image,) = kept(bench)
    with Image.open(io.BytesIO(base64.b64decode(image.preview))) as preview:
        assert preview.format == "WEBP"
        assert preview.width == 2 * preview.height


@pytest.mark.parametrize("fault", [unavailable(), RuntimeError("surprise")])
def test_jobs_finish_if_images_cannot_be_kept(bench: Bench, monkeypatch: Any, fault: Exception) -> None:
    def fail(*_: Any) -> bool:
        raise fault

    monkeypatch.setattr(bench.ledger.reviews, "keep", fail)
    finish(bench, DOUBTFUL)
    wait_until(lambda: not stored_images(bench.folder), "the copy that is not recorded to be deleted", 30)
    monkeypatch.undo()
    (job_id,) = finish(bench, DOUBTFUL)
    assert [image.job_id for image in kept(bench)] == [job_id]


def test_no_copy_is_left_of_an_image_whose_job_is_purged_meanwhile(
    bench: Bench, redis_client: "redis.Redis", monkeypatch: Any
) -> None:
    keep = bench.ledger.reviews.keep

    def purge_first(image: KeptImage, *arguments: Any) -> bool:
        bench.ledger.purge([image.job_id], 60)
        return keep(image, *arguments)

    monkeypatch.setattr(bench.ledger.reviews, "keep", purge_first)
    job_id = bench.submit(DOUBTFUL)
    bench.worker.pipeline.serve()
    wait_until(lambda: not stored_images(bench.folder), "the copy to be deleted", 30)
    assert not redis_client.exists(keys.REVIEW + job_id)


def test_the_reconciler_removes_what_has_expired(bench: Bench, redis_client: "redis.Redis") -> None:
    (job_id,) = finish(bench, DOUBTFUL)
    redis_client.hset(keys.REVIEW + job_id, "kept_ms", 1)
    bench.worker.reconciler.sweep()
    assert bench.ledger.reviews.counts("") == ReviewCounts(0, 0)
    assert not stored_images(bench.folder)
