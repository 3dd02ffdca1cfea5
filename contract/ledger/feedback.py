"""What users report about predictions: the right label of a job. Counts per model, version and day outlive the jobs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import redis

from contract.job import Job, JobStatus, now_ms
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable
from contract.share import wilson

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Count:
    """How many predictions were right, of those with feedback."""

    right: int = 0
    total: int = 0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy."""
        return wilson(self.right, self.total)

    def __add__(self, other: "Count") -> "Count":
        return Count(self.right + other.right, self.total + other.total)


@dataclass(frozen=True, slots=True)
class VersionFeedback:
    """The feedback on one version of a model."""

    version: str
    #: By day since 1970 on which the jobs finished, oldest first.
    days: Mapping[int, Count] = field(default_factory=dict)

    @property
    def count(self) -> Count:
        """The feedback of all days."""
        return sum(self.days.values(), Count())


class FeedbackStore:
    """Records and counts feedback; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        self._feedback = client.register_script(read_scripts()["feedback"])

    @redis_errors_as_unavailable
    def add(self, job: Job, label: str, by: str = "", now_ms: int = 0) -> bool:
        """Record the right label of a job; the last one counts. False if the job has no prediction, or has expired.

        If the job's image is kept for review, it is reviewed with this: by the owner of the API key with the id `by`.
        """
        result = job.result
        if job.status is not JobStatus.SUCCEEDED or not result or not result.prediction or not result.model:
            return False
        day = day_of(job.finished_ms or 0)
        model = result.model
        arguments: list[str | int] = [job.id, label, result.prediction.label, model.name, model.version, day]
        arguments += [by, now_ms]
        return bool(self._feedback(args=arguments))

    @redis_errors_as_unavailable
    def label_of(self, job_id: str) -> str:
        """The right label that was reported for a job; empty if there is none, or the job has expired."""
        return cast("str | None", self._redis.hget(keys.job(job_id), "feedback")) or ""

    @redis_errors_as_unavailable
    def of_model(self, name: str, days: int, at_ms: int = 0) -> list[VersionFeedback]:
        """The feedback on each version of a model in the last `days` days, sorted by version."""
        today = day_of(at_ms or now_ms())
        wanted = range(today - days + 1, today + 1)
        pipeline = self._redis.pipeline(transaction=False)
        for day in wanted:
            pipeline.hgetall(f"{keys.FEEDBACK}{name}:{day}")
        found: dict[str, dict[int, Count]] = {}
        for day, row in zip(wanted, pipeline.execute(), strict=True):
            for version, count in _counts(row):
                by_day = found.setdefault(version, {})
                by_day[day] = by_day.get(day, Count()) + count
        return [VersionFeedback(version, by_day) for version, by_day in sorted(found.items())]

    @redis_errors_as_unavailable
    def totals(self) -> dict[tuple[str, str, bool], int]:
        """How often feedback was recorded, by model, version, and whether the prediction was right. It never falls."""
        totals = {}
        for key, number in cast("dict[str, str]", self._redis.hgetall(keys.FEEDBACK_TOTALS)).items():
            name, _, rest = key.partition("@")
            version, _, side = rest.rpartition("|")
            totals[name, version, side == "right"] = int(number)
        return totals


def day_of(time_ms: int) -> int:
    """The day in which a time is counted, since 1970 (UTC)."""
    return time_ms // _DAY_MS


def _counts(row: Mapping[str, str]) -> Iterator[tuple[str, Count]]:
    for key, number in row.items():
        version, _, side = key.rpartition("|")
        if int(number):
            yield version, Count(int(number) if side == "right" else 0, int(number))
