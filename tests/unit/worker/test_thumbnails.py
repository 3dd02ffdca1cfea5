"""Which images get a thumbnail, and its size and shape. No job waits for a thumbnail."""

import io
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.errors import UnavailableError
from contract.images.thumbnails import ThumbnailStore
from contract.job import Features
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from tests.support.images import draw
from tests.support.ledger import claimed, patient_client, submitted
from tests.support.services import wait_until
from tests.unit.worker.conftest import Bench
from worker.upkeep.thumbnails import Thumbnailer, thumbnail_of

WIDE = Features(width=400, height=200, brightness=0.5, contrast=0.1)
PIXELS = np.full((128, 128, 3), (200, 30, 30), np.uint8)


@pytest.fixture
def claim(ledger: Ledger) -> Claim:
    return claimed(ledger, submitted(ledger))


class SlowStore(ThumbnailStore):
    """Waits for `may_write` before each write, and fails on the first one."""

    def __init__(self, client: Any) -> None:
        super().__init__(client, 60)
        self.may_write = threading.Event()
        self._fails = True

    def put(self, job_id: str, data: bytes, fence: int) -> bool:
        assert self.may_write.wait(30)
        if self._fails:
            self._fails = False
            raise UnavailableError("gone")
        return super().put(job_id, data, fence)


@pytest.fixture
def store(clean_redis: str) -> Iterator[SlowStore]:
    with patient_client(clean_redis) as client:
        yield SlowStore(client)


def test_a_thumbnail_is_small_and_has_the_shape_of_the_original_image() -> None:
    data = thumbnail_of(PIXELS, WIDE, max_side=96)

    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (96, 48)
        assert abs(np.asarray(image.convert("RGB"))[20, 20].astype(int) - (200, 30, 30)).max() < 8
    assert len(data) < 5_000


@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1)])
def test_an_image_of_any_shape_has_a_thumbnail(size: tuple[int, int]) -> None:
    features = Features(*size, 0.5, 0.1)
    with Image.open(io.BytesIO(thumbnail_of(np.zeros((16, 16, 3), np.uint8), features, 96))) as image:
        assert sorted(image.size) == [1, 16]  # never larger than the decoded pixels


def test_the_rate_of_thumbnails_is_limited_after_a_burst(store: SlowStore, claim: Claim) -> None:
    now_s = [0.0]
    thumbnailer = Thumbnailer(store, per_s=0.5, max_side=96, clock=lambda: now_s[0])

    assert [thumbnailer.offer(claim, PIXELS, WIDE) for _ in range(8)] == [True] * 6 + [False] * 2
    now_s[0] += 2
    assert [thumbnailer.offer(claim, PIXELS, WIDE) for _ in range(2)] == [True, False]


def test_no_thumbnail_is_created_at_rate_zero_or_without_pixels(store: SlowStore, claim: Claim) -> None:
    assert not Thumbnailer(store, per_s=0, max_side=96).offer(claim, PIXELS, WIDE)
    assert not Thumbnailer(store, per_s=5, max_side=96).offer(claim, None, None)


def test_a_slow_and_failing_store_never_blocks_an_offer(store: SlowStore, ledger: Ledger) -> None:
    thumbnailer = Thumbnailer(store, per_s=100, max_side=96)
    thumbnailer.start()
    claims = [claimed(ledger, submitted(ledger)) for _ in range(40)]

    accepted = [claim.job.id for claim in claims if thumbnailer.offer(claim, PIXELS, WIDE)]
    assert 32 <= len(accepted) <= 33  # the queue holds 32; the thread may have taken one
    store.may_write.set()
    wait_until(lambda: sum(map(bool, store.get(accepted))) == len(accepted) - 1, "all but the failed thumbnail", 30)
    thumbnailer.stop()


def test_a_finished_job_has_a_thumbnail(bench: Bench, clean_redis: str) -> None:
    job_id = bench.submit(draw())
    bench.worker.thumbnailer.start()
    bench.process(job_id)
    with patient_client(clean_redis) as client:
        thumbnails = ThumbnailStore(client, 60)
        wait_until(lambda: thumbnails.get([job_id]) != [None], "the thumbnail", 10)
    bench.worker.thumbnailer.stop()
