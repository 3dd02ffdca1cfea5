"""Requeues jobs that no worker holds. Every worker runs a reconciler, but only the leader sweeps."""

import threading
import time
from dataclasses import dataclass, field

from contract.errors import UnavailableError
from contract.images.store import ImageStore
from contract.ledger.ledger import Ledger
from contract.ledger.reviews import ReviewLimits
from contract.ledger.types import Sweep
from contract.log import get_logger
from contract.purge import Purger

_log = get_logger(__name__)

#: Maximum number of images marked for deletion that one sweep deletes.
_DISCARDED_PER_SWEEP = 1000
#: Seconds between two searches for expired images.
_SWEEP_IMAGES_S = 600.0


@dataclass
class Reconciler:
    """A thread that recovers lost jobs, completes interrupted purges, and deletes images that nobody needs."""

    ledger: Ledger
    images: ImageStore
    #: The part with the copies of images that are kept for review, if any are kept, and their limits.
    kept: ImageStore | None
    review_limits: ReviewLimits
    worker_id: str
    sweep_s: float
    #: How long a worker may take to renew its leases, or a purge to make progress.
    grace_s: float
    max_attempts: int
    result_ttl_s: int
    image_ttl_s: int
    _sweep_images_at_s: float = field(default_factory=time.monotonic)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        if self._thread:
            self._thread.join()

    def sweep(self) -> int:
        """Sweep once, if this worker leads; returns the number of jobs that were requeued.

        Raises:
            UnavailableError: Redis or the image store is unavailable.
        """
        if not self.ledger.lead(self.worker_id, ttl_ms=int(3 * self.sweep_s * 1000)):
            return 0
        recovered = sum(self._sweep_queue(queue) for queue in self.ledger.queue_names())
        purger = Purger(self.ledger, self.images, self.result_ttl_s)
        purger.resume(self.grace_s, by=self.worker_id)
        if removed := self.ledger.reviews.trim(self.review_limits):
            _log.info("Removed images from review", action="reviews_trimmed", images=removed)
        purger.delete_discarded(_DISCARDED_PER_SWEEP)
        self._sweep_images()
        return recovered

    def _sweep_queue(self, queue: str) -> int:
        requeued = self.ledger.recover(Sweep(queue, self.max_attempts, self.result_ttl_s))
        if requeued:
            _log.warning("Requeued jobs that no worker held", action="recovered", queue=queue, jobs=requeued)
        return requeued

    def _sweep_images(self) -> None:
        """Delete expired images, at most once every `_SWEEP_IMAGES_S`."""
        if time.monotonic() < self._sweep_images_at_s:
            return
        self._sweep_images_at_s = time.monotonic() + _SWEEP_IMAGES_S
        if swept := self.images.sweep(self.image_ttl_s):
            _log.info("Deleted expired images", action="images_swept", images=swept)
        if self.kept:
            self.kept.sweep(self.review_limits.ttl_s)  # copies whose worker was killed before it recorded them

    def _run(self) -> None:
        pause_s = self.sweep_s
        while not self._stopping.wait(pause_s):
            pause_s = self.sweep_s
            try:
                self.sweep()
            except UnavailableError as error:
                _log.warning("A sweep for lost jobs failed", reason=error.detail)
                # No worker could renew its leases during the outage: let them do so before the next sweep.
                pause_s = max(self.sweep_s, self.grace_s / 2)
            # The thread must keep running: without it, lost jobs are never recovered.
            except Exception:  # noqa: BLE001
                _log.exception("A sweep for lost jobs failed")
