"""What each version of a model did: jobs, errors, predict times, labels and confidences. The counts outlive the jobs.

`commit.lua` writes them: for each day, and since a canary began for the canary and the live version.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import redis

from contract.errors import PredictFailedError
from contract.job import JobResult, now_ms
from contract.ledger import keys
from contract.ledger.connection import redis_errors_as_unavailable
from contract.ledger.feedback import day_of
from contract.share import wilson

#: Predict times are counted in ranges. Each begins at `_RANGE_FACTOR` times the one before, the first at `_RANGE_0_MS`.
_RANGE_FACTOR = 2 ** (1 / 8)
_RANGE_0_MS = 0.05
_RANGES = 200
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """What a version of a model did in some time."""

    version: str
    #: Jobs that it processed, with those on which it failed.
    jobs: int = 0
    #: Jobs on which it raised an exception.
    errors: int = 0
    #: Sum of the confidences of its predictions.
    confidence_sum: float = 0.0
    #: Number of jobs by range of their predict time.
    times: Mapping[int, int] = field(default_factory=dict)
    #: Number of predictions by label.
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def error_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the share of errors."""
        return wilson(self.errors, self.jobs)

    @property
    def mean_confidence(self) -> float | None:
        """The mean confidence of its predictions; None if it made none."""
        predictions = self.jobs - self.errors
        return self.confidence_sum / predictions if predictions > 0 else None

    def predict_ms(self, share: float) -> float | None:
        """The predict time that this share of the jobs did not exceed, in milliseconds; None without jobs."""
        return quantile_ms(self.times, share)


class ModelCounts:
    """Reads the counts; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client

    @redis_errors_as_unavailable
    def of_model(self, name: str, days: int, at_ms: int = 0) -> list[VersionCounts]:
        """What each version of a model did in the last `days` days, sorted by version."""
        today = day_of(at_ms or now_ms())
        pipeline = self._redis.pipeline(transaction=False)
        for day in range(today - min(days, int(keys.MODEL_COUNTS_DAYS)) + 1, today + 1):
            pipeline.hgetall(f"{keys.MODEL_COUNTS}{name}:{day}")
        fields: Counter[str] = Counter()
        for row in pipeline.execute():
            fields.update({name: int(number) for name, number in row.items()})
        versions = sorted({key.split("/", 2)[1] for key in fields})
        return [_of_version(version, fields) for version in versions]

    @redis_errors_as_unavailable
    def totals(self) -> dict[tuple[str, str, str], int]:
        """The number of `jobs` and `errors` of all time, by model, version and kind. It never falls."""
        totals = {}
        for key, number in cast("dict[str, str]", self._redis.hgetall(keys.MODEL_TOTALS)).items():
            name, _, rest = key.partition("@")
            version, _, kind = rest.rpartition("|")
            totals[name, version, kind] = int(number)
        return totals


def _of_version(version: str, fields: Mapping[str, int]) -> VersionCounts:
    times: dict[int, int] = {}
    labels: dict[str, int] = {}
    for key, number in fields.items():
        kind, of_version, *rest = key.split("/", 2)
        if of_version == version and kind == "time":
            times[int(rest[0])] = number
        elif of_version == version and kind == "label":
            labels[rest[0]] = number
    return VersionCounts(
        version,
        fields.get(f"jobs/{version}", 0),
        fields.get(f"errors/{version}", 0),
        fields.get(f"confidence/{version}", 0) / _MILLION,
        times,
        labels,
    )


def count_arguments(result: JobResult, *, is_first: bool) -> list[str | int]:
    """The arguments of `commit.lua` that it counts; `is_first` is whether the job is the first of its batch."""
    is_to_blame = result.error is not None and result.error.code == PredictFailedError.code
    if result.model is None:
        return ["", "", int(is_to_blame), 0, 0, ""]
    confidence = round(result.prediction.confidence * _MILLION) if result.prediction else 0
    time = range_of(result.timings.predict_ms) if result.timings else 0
    batch = size_range(result.batch_size) if is_first and result.batch_size else ""
    return [result.model.name, result.model.version, int(is_to_blame), confidence, time, batch]


def size_range(images: int) -> int:
    """The range in which batches of this size are compared: 0 for one image, 1 for 2, 2 for 3 and 4, 3 for 5 to 8..."""
    return (images - 1).bit_length()


def range_of(time_ms: float) -> int:
    """The range in which a predict time is counted."""
    if time_ms <= _RANGE_0_MS:
        return 0
    return min(_RANGES - 1, int(math.log(time_ms / _RANGE_0_MS, _RANGE_FACTOR)))


def quantile_ms(times: Mapping[int, int], share: float) -> float | None:
    """The time that a share of the counted times does not exceed, at most 5 % too high or low; None without times."""
    left = share * sum(times.values())
    for at, number in sorted(times.items()):
        left -= number
        if left <= 0:
            return _RANGE_0_MS * math.pow(_RANGE_FACTOR, at + 0.5)
    return None
