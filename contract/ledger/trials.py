"""The comparison of a canary with the live version: counts of both since the canary began, and sequential tests.

Start reading at `Trial.problem`. The tests may be repeated after each job: the chance that one of them ever calls a
canary worse that is not is at most `FALSE_ALARMS` (decision 106).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Maximum probability that a canary that is as good as the live version is ever called worse.
FALSE_ALARMS = 0.01
#: Each side must have this many jobs first.
LEAST_JOBS = 50
#: Errors, predict time and accuracy are tested separately, and share the probability.
_TESTS = 3
#: A batch is slow if its range of predict times is this far above that of the median. It took at least 1.19 times as
#: long, and may not be slow until 1.30 times.
_SLOW_RANGES = 3
#: The median of the live version needs this many batches of a size.
_LEAST_BATCHES = 30


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the two versions did since the canary began."""

    jobs: int = 0
    #: Jobs on which it raised an exception.
    errors: int = 0
    #: Predictions with feedback.
    right: int = 0
    wrong: int = 0
    #: By range of the size of a batch: number of batches by range of their predict time.
    times: Mapping[int, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """The comparison of a canary with the live version."""

    #: The share of the jobs that the canary gets.
    percent: float
    canary: Side
    live: Side

    @classmethod
    def from_fields(cls, percent: float, fields: Mapping[str, str]) -> "Trial":
        """Read the stored counts."""
        return cls(percent, _side("canary", fields), _side("live", fields))

    def problem(self) -> str:
        """In what way the canary is worse than the live version; empty if nothing shows that it is."""
        if min(self.canary.jobs, self.live.jobs) < LEAST_JOBS:
            return ""
        return self._errors() or self._times() or self._accuracy()

    def _errors(self) -> str:
        """If both fail equally often, the canary has its share of the errors."""
        canary, live = self.canary, self.live
        if not exceeds(canary.errors, live.errors, self.percent / 100):
            return ""
        return (
            f"Its error rate is {_share(canary.errors, canary.jobs)} jobs), "
            f"that of the live version {_share(live.errors, live.jobs)})."
        )

    def _times(self) -> str:
        """If the canary is at most a quarter slower, at most half of its batches are slow."""
        slow, batches = slow_batches(self.canary.times, self.live.times)
        if not exceeds(slow, batches - slow, 0.5):
            return ""
        return (
            f"It is slower: {slow:,} of {batches:,} batches took at least 1.2 times as long as the median of the live "
            "version for as many images."
        )

    def _accuracy(self) -> str:
        """If both are equally accurate, the same share of the predictions with feedback is wrong."""
        canary, live = self.canary, self.live
        if not differs(canary.wrong, canary.right, live.wrong, live.right):
            return ""
        return (
            f"Its accuracy by feedback is {_share(canary.right, canary.right + canary.wrong)} images), "
            f"that of the live version {_share(live.right, live.right + live.wrong)})."
        )


def exceeds(hits: int, others: int, share: float) -> bool:
    """Whether hits are more frequent than a share of all events: a mixture likelihood ratio test.

    The likelihood of the events, averaged over all shares, is divided by that under `share`. If that is the true share,
    the ratio is a martingale, so the probability that it ever reaches a bound is at most one divided by the bound.
    """
    if hits <= share * (hits + others):
        return False
    mixed = _log_beta(hits + 1, others + 1)
    return mixed - hits * math.log(share) - others * math.log1p(-share) >= _LOG_BOUND


def differs(hits: int, others: int, live_hits: int, live_others: int) -> bool:
    """Whether hits are more frequent on the first side than on the second: the same test with two unknown shares.

    Both are averaged over; the divisor is the highest likelihood that any common share has, which is at least that of
    the true one.
    """
    total, all_hits = hits + others + live_hits + live_others, hits + live_hits
    if hits * (live_hits + live_others) <= live_hits * (hits + others):
        return False
    mixed = _log_beta(hits + 1, others + 1) + _log_beta(live_hits + 1, live_others + 1)
    return mixed - _log_likelihood(all_hits, total - all_hits) >= _LOG_BOUND


_LOG_BOUND = math.log(_TESTS / FALSE_ALARMS)


def slow_batches(canary: Mapping[int, Mapping[int, int]], live: Mapping[int, Mapping[int, int]]) -> tuple[int, int]:
    """How many batches of the canary are slow, and how many can be compared.

    A batch is compared with batches of the live version that have about as many images, or else with the next larger
    ones that there are: those take longer, if anything.
    """
    medians = {size: _median(times) for size, times in live.items() if sum(times.values()) >= _LEAST_BATCHES}
    slow = batches = 0
    for size, times in canary.items():
        median = next((medians[other] for other in sorted(medians) if other >= size), None)
        if median is not None:
            batches += sum(times.values())
            slow += sum(number for at, number in times.items() if at >= median + _SLOW_RANGES)
    return slow, batches


def _median(times: Mapping[int, int]) -> int:
    left = sum(times.values()) / 2
    for at, number in sorted(times.items()):
        left -= number
        if left <= 0:
            return at
    raise ValueError("There are no times.")


def _log_beta(a: int, b: int) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_likelihood(hits: int, others: int) -> float:
    """The highest log-likelihood that a share can have."""
    total = hits + others
    return sum(number * math.log(number / total) for number in (hits, others) if number)


def _share(part: int, total: int) -> str:
    percent = 100 * part / total if total else 0.0
    return f"{percent:.1f} % ({part:,} of {total:,}"


def _side(name: str, fields: Mapping[str, str]) -> Side:
    times: dict[int, dict[int, int]] = {}
    for key, number in fields.items():
        side, kind, *rest = key.split("/")
        if side == name and kind == "time":
            size, at = map(int, rest)
            times.setdefault(size, {})[at] = int(number)
    values = {kind: int(fields.get(f"{name}/{kind}", 0)) for kind in ("jobs", "errors", "right", "wrong")}
    return Side(**values, times=times)
