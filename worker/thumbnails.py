"""Keeps thumbnails of some images for the dashboard, in a thread of its own, out of pixels already decoded."""

import io
import queue
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contract.errors import UnavailableError
from contract.images.thumbnails import ThumbnailStore
from contract.job import Features
from contract.log import get_logger
from worker.message import Item

_log = get_logger(__name__)

#: Thumbnails that may be made at once after a quiet while, in seconds of their rate.
_BURST_S = 12.0
_WAITING_MAX = 32
_QUALITY = 70


class Thumbnailer:
    """Takes images as long as their rate allows; the caller never waits for it."""

    def __init__(
        self, store: ThumbnailStore, per_s: float, longest: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._per_s = per_s
        self._longest = longest
        self._clock = clock
        self._allowed = self._burst = per_s * _BURST_S
        self._counted_at_s = clock()
        self._pending: queue.Queue[Item | None] = queue.Queue(_WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="thumbnails", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Make no more; what waits is left out, since nobody depends on it."""
        self._per_s = 0.0
        while not self._pending.empty():
            self._pending.get()
        self._pending.put(None)
        self._thread.join()

    def offer(self, item: Item) -> bool:
        """Have a thumbnail made of a decoded image soon; False where the rate or the room does not allow it."""
        if not self._per_s or item.pixels is None or item.features is None or not self._is_allowed():
            return False
        try:
            self._pending.put_nowait(item)
        except queue.Full:
            return False
        self._allowed -= 1
        return True

    def _is_allowed(self) -> bool:
        now_s = self._clock()
        self._allowed = min(self._burst, self._allowed + (now_s - self._counted_at_s) * self._per_s)
        self._counted_at_s = now_s
        return self._allowed >= 1

    def _run(self) -> None:
        while item := self._pending.get():
            try:
                self._keep(item)
            except UnavailableError:
                continue  # an image less on the dashboard; the job is not touched
            except Exception:  # noqa: BLE001 - as above, and the thread must live on
                _log.exception("A thumbnail could not be made")

    def _keep(self, item: Item) -> None:
        if item.pixels is not None and item.features is not None:
            self._store.put(item.claim.job.id, thumbnail_of(item.pixels, item.features, self._longest))


def thumbnail_of(pixels: NDArray[np.uint8], features: Features, longest: int) -> bytes:
    """A WebP file of uint8 RGB (height, width, 3) pixels in the shape of the whole image, `longest` px at most."""
    scale = min(longest, max(pixels.shape[:2])) / max(features.width, features.height)
    size = (max(1, round(features.width * scale)), max(1, round(features.height * scale)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()
