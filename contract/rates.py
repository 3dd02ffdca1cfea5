"""Rate limits, counted in Redis for all gateways and dashboards together."""

import re
from dataclasses import dataclass

import redis

from contract.errors import RateLimitedError
from contract.ledger import keys
from contract.ledger.connection import redis_errors_as_unavailable

#: As in the settings and in API keys, for example `100 per minute` or `10 per 5 minutes`.
_RATE = re.compile(r"(\d+) ?(?:/|per) ?(\d*) ?(second|minute|hour|day)s?")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


@dataclass(frozen=True, slots=True)
class Window:
    """The current window of a counter, after counting a request."""

    #: Maximum number of requests.
    limit: int
    length_s: int
    #: Number of requests so far.
    used: int
    #: Time until the window ends.
    reset_s: int

    @property
    def remaining(self) -> int:
        """Number of requests left."""
        return max(0, self.limit - self.used)

    def check(self, problem: str) -> None:
        """Raise `RateLimitedError` with `problem` if there were more requests than allowed."""
        if self.used > self.limit:
            raise RateLimitedError(f"{problem} Wait for the time in `Retry-After`.", retry_after_s=self.reset_s)


class RateLimits:
    """Counts requests in fixed windows, each of which starts with its first request."""

    def __init__(self, client: "redis.Redis", default: str) -> None:
        self._redis = client
        self._default = default

    @redis_errors_as_unavailable
    def count(self, counter: str, rate: str = "") -> Window:
        """Count a request. While Redis is full, it is not counted, so that clients can still read and purge results.

        Args:
            counter: What to count: the id of an API key, or another name.
            rate: The limit; empty for the default.

        Raises:
            UnavailableError: Redis is not responding.
        """
        found = _RATE.fullmatch(rate or self._default)
        assert found  # noqa: S101 - the settings and `pawqueue keys create` accept nothing else
        limit, length_s = int(found[1]), int(found[2] or 1) * _UNITS_S[found[3]]
        key = f"{keys.RATES}:{counter}:{length_s}"
        with self._redis.pipeline() as pipeline:
            pipeline.set(key, 0, ex=length_s, nx=True)
            pipeline.incrby(key)
            pipeline.ttl(key)
            try:
                _, used, reset_s = pipeline.execute()
            except redis.exceptions.OutOfMemoryError:
                used, reset_s = 0, length_s
        return Window(limit, length_s, used, max(1, reset_s))
