"""What happens to the images of finished jobs: they are deleted, and copies of doubtful ones are kept for review."""

import base64
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from contract.errors import UnavailableError
from contract.images.formats import is_shown_by_browsers
from contract.images.store import ImageStore
from contract.job import JobResult, now_ms
from contract.ledger.feedback import day_of
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
        """Keep copies of the images of finished jobs for these reasons. Call it before the images are deleted.

        An image is kept once. Those with several labels are not kept, because feedback has only one.
        """
        wanted = [row for row in finished if row[1].prediction and row[1].prediction.labels is None]
        if not self.kept or not wanted:
            return
        try:
            self._keep(self.kept, wanted)
        except UnavailableError as error:
            _log.warning("Images were not kept for review", count=len(wanted), reason=error.detail)
        # The thread of the caller must keep running; no job depends on a copy.
        except Exception:  # noqa: BLE001
            _log.exception("Images were not kept for review", count=len(wanted))

    def _keep(self, store: ImageStore, wanted: Sequence[tuple[Item, JobResult, ReviewReason]]) -> None:
        images = self.images.get([item.claim.job.image for item, _, _ in wanted])
        found = [(*row, data) for row, data in zip(wanted, images, strict=True) if data]
        refs = store.put_many([data for *_, data in found])
        dropped = []
        for (item, result, reason, data), ref in zip(found, refs, strict=True):
            kept = _kept_image(item, result, reason, data, ref)
            if not (kept and self.ledger.reviews.keep(kept, item.claim.fence, self.limits)):
                dropped.append(ref)
        self.images.delete(dropped)


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
        day=day_of(now_ms()),
        owner=job.owner,
        submission=job.submission,
        file=job.file,
        preview="" if is_shown_by_browsers(data) else _preview(item),
    )


def _preview(item: Item) -> str:
    if item.pixels is None or item.features is None:
        return ""
    return base64.b64encode(thumbnail_of(item.pixels, item.features, _PREVIEW_PIXELS)).decode()
