"""What shadows predicted: how often they agree with the live version of their model, and on which jobs they do not.

Counts by model, pair of versions and day outlive the jobs. Disagreements are kept for some days, or until their job is
purged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, cast

import redis

from contract.job import now_ms
from contract.ledger import keys
from contract.ledger.connection import read_scripts, redis_errors_as_unavailable
from contract.share import mcnemar, wilson

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Compared:
    """What the live version and the shadow of a model predicted for a job."""

    job_id: str
    model: str
    live: str
    shadow: str
    label: str
    shadow_label: str
    confidence: float
    shadow_confidence: float
    agreed: bool
    #: Of the claim under which the job was processed; 0 for any.
    fence: int = 0


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A job for which the live version and the shadow predicted different labels. It may have expired."""

    job_id: str
    at_ms: int
    #: The versions.
    live: str
    shadow: str
    label: str
    shadow_label: str
    confidence: float
    shadow_confidence: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two versions of a model compare."""

    #: The versions.
    live: str
    shadow: str
    agreed: int = 0
    differed: int = 0
    #: Jobs with feedback, by which of the versions was right.
    both_right: int = 0
    only_live: int = 0
    only_shadow: int = 0
    both_wrong: int = 0

    @property
    def compared(self) -> int:
        """The number of jobs that both versions predicted."""
        return self.agreed + self.differed

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the share on which they agree."""
        return wilson(self.agreed, self.compared)

    @property
    def with_feedback(self) -> int:
        """The number of compared jobs whose right label was reported."""
        return self.both_right + self.only_live + self.only_shadow + self.both_wrong

    @property
    def p_value(self) -> float:
        """The p-value of McNemar's exact test: small if one of the versions is more often right."""
        return mcnemar(self.only_live, self.only_shadow)


#: The fields of an `Agreement`, by their name in the counts of a day.
_FIELDS = {
    "agreed": "agreed",
    "differed": "differed",
    "both": "both_right",
    "live": "only_live",
    "shadow": "only_shadow",
    "neither": "both_wrong",
}


class ShadowStore:
    """Records and counts what shadows predict; methods raise `UnavailableError` if Redis is not responding."""

    def __init__(self, client: "redis.Redis") -> None:
        self._redis = client
        self._compare = client.register_script(read_scripts()["compare"])

    @redis_errors_as_unavailable
    def record(self, rows: Sequence[Compared], now_ms: int = 0) -> list[bool]:
        """Count jobs and keep disagreements; False for a job that was counted before or no longer exists."""
        arguments: list[Any] = [now_ms]
        for row in rows:
            *values, agreed, fence = astuple(row)
            arguments += [*values, int(agreed), fence]
        return [bool(value) for value in cast("list[int]", self._compare(args=arguments))]

    @redis_errors_as_unavailable
    def agreement(self, name: str, days: int, at_ms: int = 0) -> list[Agreement]:
        """How the live versions and the shadows of a model compared in the last `days` days, sorted by version."""
        today = (at_ms or now_ms()) // _DAY_MS
        pipeline = self._redis.pipeline(transaction=False)
        for day in range(today - days + 1, today + 1):
            pipeline.hgetall(f"{keys.SHADOW}{name}:{day}")
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for row in pipeline.execute():
            for key, number in row.items():
                live, shadow, side = key.split("|")
                counts = found.setdefault((live, shadow), dict.fromkeys(_FIELDS.values(), 0))
                counts[_FIELDS[side]] += int(number)
        return [Agreement(live, shadow, **counts) for (live, shadow), counts in sorted(found.items())]

    @redis_errors_as_unavailable
    def disagreements(self, name: str, count: int = keys.DISAGREEMENTS_KEPT) -> list[Disagreement]:
        """The latest jobs for which the live version and the shadow predicted different labels, newest first.

        They include jobs that have expired, but none that were purged.
        """
        entries = self._redis.xrevrange(keys.DISAGREEMENTS + name, count=count)
        return [_disagreement(*entry) for entry in cast("list[tuple[str, dict[str, str]]]", entries)]

    @redis_errors_as_unavailable
    def totals(self) -> dict[tuple[str, str, bool], int]:
        """How many jobs shadows have predicted, by model, shadow, and whether they agreed. It never falls."""
        totals = {}
        for key, number in cast("dict[str, str]", self._redis.hgetall(keys.SHADOW_TOTALS)).items():
            name, _, rest = key.partition("@")
            version, _, side = rest.rpartition("|")
            totals[name, version, side == "agreed"] = int(number)
        return totals


def _disagreement(entry_id: str, fields: Mapping[str, str]) -> Disagreement:
    return Disagreement(
        job_id=fields["job"],
        at_ms=int(entry_id.partition("-")[0]),
        live=fields["live"],
        shadow=fields["shadow"],
        label=fields["label"],
        shadow_label=fields["shadow_label"],
        confidence=float(fields["confidence"]),
        shadow_confidence=float(fields["shadow_confidence"]),
    )
