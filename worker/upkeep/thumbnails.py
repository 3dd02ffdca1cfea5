"""Stores thumbnails of some images for the dashboard, made in the background from decoded pixels."""

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
from contract.ledger.types import Claim
from contract.log import get_logger

_log = get_logger(__name__)

#: After a quiet period, this many seconds' worth of thumbnails may be made in one burst.
_BURST_S = 12.0
_WAITING_MAX = 32
_QUALITY = 70


class Thumbnailer:
    """Makes at most `per_s` thumbnails a second, at most `max_side` pixels wide and high. Never blocks its callers."""

    def __init__(
        self, store: ThumbnailStore, per_s: float, max_side: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._per_s = per_s
        self._max_side = max_side
        self._clock = clock
        self._allowed = self._burst = per_s * _BURST_S
        self._counted_at_s = clock()
        self._pending: queue.Queue[tuple[Claim, NDArray[np.uint8], Features] | None] = queue.Queue(_WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="thumbnails", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Drop the waiting thumbnails and stop the thread."""
        self._per_s = 0.0
        while not self._pending.empty():
            self._pending.get()
        self._pending.put(None)
        self._thread.join()

    def offer(self, claim: Claim, pixels: NDArray[np.uint8] | None, features: Features | None) -> bool:
        """Queue a thumbnail of a claimed job's image; returns False if there are no pixels or the limit is reached."""
        if not self._per_s or pixels is None or features is None or not self._is_allowed():
            return False
        try:
            self._pending.put_nowait((claim, pixels, features))
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
        while entry := self._pending.get():
            claim, pixels, features = entry
            try:
                self._store.put(claim.job.id, thumbnail_of(pixels, features, self._max_side), claim.fence)
            except UnavailableError:
                continue  # the dashboard then shows this job without an image
            # The thread must keep running; no job depends on a thumbnail.
            except Exception:  # noqa: BLE001
                _log.exception("A thumbnail could not be made")


def thumbnail_of(pixels: NDArray[np.uint8], features: Features, max_side: int) -> bytes:
    """Encode uint8 RGB pixels (height, width, 3) as WebP, at most `max_side` pixels per side.

    The thumbnail has the aspect ratio of the original image.
    """
    scale = min(max_side, max(pixels.shape[:2])) / max(features.width, features.height)
    size = (max(1, round(features.width * scale)), max(1, round(features.height * scale)))
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return buffer.getvalue()
