"""Thumbnails: which images get one, what they look like, and that no job ever waits for one."""

import io
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from contract.errors import UnavailableError
from contract.job import Features, Job, new_job_id
from contract.ledger.types import Claim
from tests.support.twin.stores import MemoryThumbnailStore
from worker.message import Item, Message
from worker.thumbnails import Thumbnailer, thumbnail_of

WIDE = Features(width=400, height=200, brightness=0.5, contrast=0.1)


def item() -> Item:
    pixels = np.full((128, 128, 3), (200, 30, 30), np.uint8)
    return Item(Claim(Job(new_job_id(), "bulk", 0), 1), Message(1), 0, pixels=pixels, features=WIDE)


class Store(MemoryThumbnailStore):
    """Says when it holds so many; fails or holds its writer up on request."""

    def __init__(self, wanted: int = 1) -> None:
        super().__init__()
        self.wanted, self.complete = wanted, threading.Event()
        self.fails = 0
        self.may_write = threading.Event()
        self.may_write.set()

    def put(self, job_id: str, data: bytes) -> None:
        self.may_write.wait()
        if self.fails:
            self.fails -= 1
            raise UnavailableError("gone")
        super().put(job_id, data)
        if len(self.get_all()) >= self.wanted:
            self.complete.set()

    def get_all(self) -> Sequence[str]:
        return list(self._thumbnails)


def test_a_thumbnail_has_the_shape_of_the_whole_image_and_is_small() -> None:
    data = thumbnail_of(np.full((128, 128, 3), (200, 30, 30), np.uint8), WIDE, longest=96)

    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (96, 48)
        assert abs(np.asarray(image.convert("RGB"))[20, 20].astype(int) - (200, 30, 30)).max() < 8
    assert len(data) < 5_000


@pytest.mark.parametrize("size", [(1, 50_000), (50_000, 1)])
def test_an_image_of_any_shape_has_one(size: tuple[int, int]) -> None:
    features = Features(*size, 0.5, 0.1)
    with Image.open(io.BytesIO(thumbnail_of(np.zeros((16, 16, 3), np.uint8), features, 96))) as image:
        assert sorted(image.size) == [1, 16]  # never larger than what was decoded


def test_the_rate_is_kept_after_a_burst() -> None:
    now_s = [0.0]
    thumbnailer = Thumbnailer(Store(), per_s=0.5, longest=96, clock=lambda: now_s[0])

    assert [thumbnailer.offer(item()) for _ in range(8)] == [True] * 6 + [False] * 2
    now_s[0] += 2
    assert [thumbnailer.offer(item()) for _ in range(2)] == [True, False]


def test_none_is_made_where_they_are_switched_off_or_there_are_no_pixels() -> None:
    assert not Thumbnailer(Store(), per_s=0, longest=96).offer(item())
    undecoded = item()
    undecoded.pixels = None
    assert not Thumbnailer(Store(), per_s=5, longest=96).offer(undecoded)


def test_whoever_offers_never_waits_and_a_failing_store_ends_nothing() -> None:
    store = Store()
    store.fails = 1
    store.may_write.clear()
    thumbnailer = Thumbnailer(store, per_s=100, longest=96)
    thumbnailer.start()

    taken = [thumbnailer.offer(item()) for _ in range(40)]  # the store is stuck all the while
    assert 32 <= sum(taken) <= 33
    store.may_write.set()
    assert store.complete.wait(30)
    thumbnailer.stop()
