"""Images that are kept after their job has finished, so that people review them: they say what each one shows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, cast

import redis

from contract.job import Job, JobStatus
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable
from contract.queues import INTERACTIVE

#: The part of the image store in which images are kept for review.
REVIEW_PART = "review/"
#: A skipped image waits this long.
SKIP_MS = 600_000


class ReviewReason(StrEnum):
    """Why an image is kept."""

    #: The confidence is below `PAWQUEUE_REVIEW_BELOW`.
    LOW_CONFIDENCE = "low_confidence"
    #: The result has the warning `unfamiliar_image`.
    UNFAMILIAR = "unfamiliar_image"
    #: A shadow predicted another label.
    SHADOW_DISAGREES = "shadow_disagrees"


class Reviewed(StrEnum):
    """What happened to a label that a reviewer gave."""

    DONE = "done"
    #: Another reviewer has the image, or labeled it.
    TAKEN = "taken"
    #: The image is no longer kept.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ReviewLimits:
    """How many images are kept."""

    ttl_s: int
    max_images: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class KeptImage:
    """An image that is kept for review, with what is known about its job, whose record may have expired."""

    job_id: str
    reason: str
    #: Its reference in the image store, and its size.
    image: str
    size_bytes: int
    predicted: str
    confidence: float
    #: The model and version that predicted it.
    model: str
    version: str
    #: The day on which the job finished, for the counts of feedback; `keep` sets it.
    day: int = 0
    #: Id of the API key that sent it; empty if no key was required.
    owner: str = ""
    submission: str = ""
    file: str = ""
    #: A WebP image in Base64, if browsers may not show the image itself.
    preview: str = ""
    kept_ms: int = 0
    #: What it shows, by the owner of the API key with the id `labeled_by`; empty before somebody labeled it.
    label: str = ""
    labeled_by: str = ""
    labeled_ms: int = 0

    @property
    def job(self) -> Job:
        """Its job, as far as it is known after the record has expired."""
        return Job(self.job_id, INTERACTIVE, self.kept_ms, JobStatus.SUCCEEDED, file=self.file, owner=self.owner)


@dataclass(frozen=True, slots=True)
class ReviewCounts:
    """How many images are kept, and how many of them have a label."""

    kept: int
    reviewed: int


class ReviewStore:
    """Reads and changes the images kept for review; methods raise `UnavailableError` if Redis is not responding.

    Where an `owner` is given, only images of that owner are considered; of all owners if it is empty.
    """

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        scripts = read_scripts()
        self._keep = client.register_script(scripts["keep"])
        self._trim = client.register_script(scripts["trim_reviews"])
        self._claim = client.register_script(scripts["claim_review"])
        self._label = client.register_script(scripts["label_review"])
        self._drop = client.register_script(scripts["drop_review"])

    @redis_errors_as_unavailable
    def keep(self, kept: KeptImage, fence: int, limits: ReviewLimits, now_ms: int = 0) -> bool:
        """Keep the image of a job that was processed under the claim `fence`; the oldest images make room for it.

        Returns:
            False if its image is kept already, if the job was purged or claimed again, or if the kept image with its id
            belongs to another owner; nothing is stored.
        """
        values = {name: value for name, value in asdict(kept).items() if value != "" and name != "job_id"}
        head: list[Any] = [now_ms, kept.job_id, fence, *_limits(limits)]
        return bool(self._keep(args=[*head, *(part for item in values.items() for part in item)]))

    @redis_errors_as_unavailable
    def trim(self, limits: ReviewLimits, now_ms: int = 0) -> int:
        """Remove expired images and those beyond the limits; returns their number. They are marked for deletion."""
        return int(cast("int", self._trim(args=[now_ms, *_limits(limits)])))

    @redis_errors_as_unavailable
    def get(self, job_id: str) -> KeptImage | None:
        """Read the kept image of a job; None if it is not kept."""
        return next(self._read([job_id]), None)

    @redis_errors_as_unavailable
    def counts(self, owner: str) -> ReviewCounts:
        """Count the images of an owner."""
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zcard(keys.REVIEW_KEPT + owner)
        pipeline.zcard(keys.REVIEW_WAITING + owner)
        kept, waiting = pipeline.execute()
        return ReviewCounts(kept, kept - waiting)

    @redis_errors_as_unavailable
    def claim(self, reviewer: str, owner: str, lease_ms: int, job_id: str = "", now_ms: int = 0) -> KeptImage | None:
        """Lease an image to a reviewer: no other reviewer gets it until `lease_ms` have passed.

        Args:
            reviewer: Identifies the reviewer.
            owner: The owner of the images.
            lease_ms: The length of the lease.
            job_id: The image, to renew its lease or to return to it; a label that this reviewer gave is taken back.
                Empty for the one that waits longest.
            now_ms: The time; 0 for the clock of Redis.
        """
        claimed = cast("str", self._claim(args=[now_ms, lease_ms, reviewer, owner, job_id]))
        return next(self._read([claimed]), None) if claimed else None

    @redis_errors_as_unavailable
    def label(self, job_id: str, reviewer: str, label: str, by: str = "", now_ms: int = 0) -> Reviewed:
        """Record what an image shows, as feedback on its job too; with an empty label, let it wait for a while."""
        return Reviewed(cast("str", self._label(args=[now_ms, job_id, reviewer, label, by, SKIP_MS])))

    @redis_errors_as_unavailable
    def drop(self, job_id: str) -> bool:
        """Remove an image from review, and mark it for deletion; False if it is not kept."""
        return bool(self._drop(args=[job_id]))

    @redis_errors_as_unavailable
    def after(self, number: int, owner: str, count: int) -> list[tuple[int, KeptImage]]:
        """Read up to `count` images with a higher number than `number`, which counts the images in order of keeping.

        If it returns fewer than `count`, there are no more.
        """
        found: list[tuple[int, KeptImage]] = []
        has_more = True
        while has_more:
            wanted = count - len(found)
            rows = self._redis.zrangebyscore(keys.REVIEW_KEPT + owner, f"({number}", "+inf", 0, wanted, withscores=True)
            numbers = {job_id: int(score) for job_id, score in cast("list[tuple[str, float]]", rows)}
            found += [(numbers[kept.job_id], kept) for kept in self._read(list(numbers))]
            number = max(numbers.values(), default=number)
            # Some may have been removed before their entries were read.
            has_more = len(numbers) == wanted and len(found) < count
        return found

    def _read(self, job_ids: Sequence[str]) -> Iterator[KeptImage]:
        pipeline = self._redis.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(keys.REVIEW + job_id)
        for job_id, row in zip(job_ids, pipeline.execute(), strict=True):
            if row:
                yield _kept(job_id, row)


def _limits(limits: ReviewLimits) -> tuple[int, int, int]:
    return limits.ttl_s * 1000, limits.max_images, limits.max_bytes


_TYPES: dict[str, Any] = {field.name: field.type for field in fields(KeptImage)}


def _kept(job_id: str, row: Mapping[str, str]) -> KeptImage:
    """Read a stored image; unknown fields, from a newer version, are ignored."""
    values = {name: _TYPES[name](text) for name, text in row.items() if name in _TYPES}
    return KeptImage(job_id=job_id, **values)
