"""What happens to the images of finished jobs: they are deleted, and copies of doubtful ones are kept for review."""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from contract.errors import UnavailableError
from contract.images.formats import is_shown_by_browsers
from contract.images.store import ImageStore
from contract.job import JobResult
from contract.ledger.ledger import Ledger
from contract.ledger.reviews import KeptImage, ReviewLimits, ReviewReason
from contract.log import get_logger
from worker.pipeline.item import Item
from worker.upkeep.thumbnails import thumbnail_of

_log = get_logger(__name__)

#: Maximum width and height of a preview.
_PREVIEW_PIXELS = 512


@dataclass(frozen=True)
class Releaser:
    """Releases the images of finished jobs: they are deleted, and copies of some are kept for review. Never raises."""

    ledger: Ledger
    images: ImageStore
    #: The part of the image store for copies; None: none are kept.
    kept: ImageStore | None
    #: Results with a lower confidence are doubtful.
    below: float
    limits: ReviewLimits

    def release(self, finished: Sequence[tuple[Item, JobResult]]) -> None:
        """Keep the images of doubtful results, and delete all others."""
        self.keep([(item, result, reason) for item, result in finished if (reason := self.reason(result))])
        refs = [item.claim.job.image for item, _ in finished if item.claim.job.image]
        try:
            self.images.delete(refs)
        except UnavailableError as error:
            _log.warning("Images of finished jobs were not deleted yet", count=len(refs), reason=error.detail)
            # The record no longer has the reference, so this list is the only way to find the images again.
            with suppress(UnavailableError):
                self.ledger.discard(refs)

    def reason(self, result: JobResult) -> ReviewReason | None:
        """Why a result is doubtful; None if it is not."""
        if result.prediction is None:
            return None
        if "unfamiliar_image" in result.warnings:
            return ReviewReason.UNFAMILIAR
        return ReviewReason.LOW_CONFIDENCE if result.prediction.confidence < self.below else None

    def keep(self, finished: Sequence[tuple[Item, JobResult, ReviewReason]]) -> None:
        """Keep copies of the images of finished jobs for these reasons. Call it before the images are deleted."""
        if not self.kept or not finished:
            return
        with _logged_failures(len(finished)):
            images = self.images.get([item.claim.job.image for item, _, _ in finished])
            self._keep([(*row, data) for row, data in zip(finished, images, strict=True) if data])

    def keep_disagreement(self, item: Item, result: JobResult, data: bytes) -> None:
        """Keep the image of a finished job, which may have been deleted, because a shadow differs."""
        with _logged_failures(1):
            self._keep([(item, result, ReviewReason.SHADOW_DISAGREES, data)])

    def _keep(self, wanted: Sequence[tuple[Item, JobResult, ReviewReason, bytes]]) -> None:
        """Keep images, each once. Those with several labels are not kept, because feedback has only one."""
        found = [row for row in wanted if row[1].prediction and row[1].prediction.labels is None]
        if not self.kept:
            return
        refs = self.kept.put_many([data for *_, data in found])
        dropped = set(refs)
        try:
            for (item, result, reason, data), ref in zip(found, refs, strict=True):
                kept = _kept_image(item, result, reason, data, ref)
                if kept and self.ledger.reviews.keep(kept, item.claim.fence, self.limits):
                    dropped.remove(ref)
        finally:
            # Also if Redis is full or not responding: the limits do not count copies that are not recorded.
            self.images.delete(list(dropped))


@contextmanager
def _logged_failures(count: int) -> Iterator[None]:
    """Log errors in the `with` block: the thread of the caller must keep running, and no job depends on a copy."""
    try:
        yield
    except UnavailableError as error:
        _log.warning("Images were not kept for review", count=count, reason=error.detail)
    except Exception:  # noqa: BLE001
        _log.exception("Images were not kept for review", count=count)


def _kept_image(item: Item, result: JobResult, reason: ReviewReason, data: bytes, ref: str) -> KeptImage | None:
    job, prediction = item.claim.job, result.prediction
    if prediction is None:
        return None
    return KeptImage(
        job_id=job.id,
        reason=reason,
        image=ref,
        size_bytes=len(data),
        predicted=prediction.label,
        confidence=prediction.confidence,
        model=item.model.name,
        version=item.model.version,
        owner=job.owner,
        submission=job.submission,
        file=job.file,
        preview="" if is_shown_by_browsers(data) else _preview(item),
    )


def _preview(item: Item) -> str:
    if item.pixels is None or item.features is None:
        return ""
    return base64.b64encode(thumbnail_of(item.pixels, item.features, _PREVIEW_PIXELS)).decode()
