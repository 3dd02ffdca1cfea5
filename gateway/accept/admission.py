"""Admission control: refuses uploads while Redis is full, and estimates how long a client should wait.

Before Redis is full, it refuses the uploads of the owners that sent most, so that one of them does not fill it for all.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from contract.errors import QueueFullError, UnavailableError
from contract.job import now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import RedisServer
from contract.status import Problem, ledger_load, ledger_problem

_SAMPLE_S = 1.0
#: The rate is measured over this many samples.
_SAMPLES = 15
#: The last part of the ledger's memory, as a share of it, is not for the owners that sent most.
_RESERVE = 0.2
#: Bounds of `Retry-After`, in seconds.
_RETRY_MIN_S, _RETRY_MAX_S = 1, 60


class Admission:
    """Samples the ledger once a second: whether Redis can store jobs, and how many jobs finish per second."""

    def __init__(self, ledger: Ledger, ledger_max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._ledger_max_bytes = ledger_max_bytes
        self._clock = clock
        #: (time in seconds, jobs finished so far).
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._problem: Problem | None = None
        #: Owners whose uploads are refused.
        self._largest: frozenset[str] = frozenset()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="admission", daemon=True)

    def start(self) -> None:
        """Start the sampling thread; call it after the process has forked."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join()

    def sample(self) -> None:
        """Read the ledger once.

        Raises:
            UnavailableError: the ledger is not responding.
        """
        totals = self._ledger.stats().totals
        self._samples.append((self._clock(), sum(totals.values())))
        server = self._ledger.server()
        self._problem = ledger_problem(server, self._ledger_max_bytes)
        self._largest = self._largest_owners(server)

    def check(self, owner: str) -> None:
        """Check that Redis could store more jobs of this owner when it was last sampled.

        Raises:
            UnavailableError: Redis is full, may evict keys, or is a replica.
            QueueFullError: Redis is nearly full, and the owner sent a large share of what it holds.
        """
        if self._problem:
            raise UnavailableError(self._problem.detail, retry_after_s=_RETRY_MAX_S)
        if owner in self._largest:
            raise QueueFullError(
                "The job ledger (Redis) is nearly full, and a large share of it is yours. Purge what you no longer "
                "need, or wait for the time in `Retry-After`, then resend the images that were not accepted.",
                retry_after_s=_RETRY_MAX_S,
            )

    def lasting_problem(self) -> str:
        """Why Redis cannot store jobs until its configuration is changed; empty if it can, or is only full."""
        return self._problem.detail if self._problem and not self._problem.is_temporary else ""

    def rate_per_s(self) -> float:
        """Jobs finished per second, over the last samples; 0 if unknown."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0

    def wait_s(self, jobs_ahead: int) -> float | None:
        """Estimated wait behind `jobs_ahead` jobs, in seconds; None if unknown."""
        rate = self.rate_per_s()
        return round((jobs_ahead + 1) / rate, 1) if rate > 0 else None

    def retry_after_s(self, jobs_ahead: int) -> int:
        """The value of `Retry-After` for a client behind `jobs_ahead` jobs, in whole seconds."""
        return max(_RETRY_MIN_S, min(_RETRY_MAX_S, math.ceil(self.wait_s(jobs_ahead) or 0)))

    def _largest_owners(self, server: RedisServer) -> frozenset[str]:
        """The owners whose share of the recent records is too large for the memory that is left.

        While the reserve is unused, no share is too large; while half of it is left, more than half; and so on.
        """
        free = 1 - ledger_load(server, self._ledger_max_bytes)
        if free >= _RESERVE:
            return frozenset()
        records = self._ledger.owner_records(now_ms())
        if len(records) < 2:
            return frozenset()  # there is nobody to keep memory for
        allowed = records.total() * max(0.0, free) / _RESERVE
        return frozenset(owner for owner, count in records.items() if count > allowed)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.sample()
            except UnavailableError:
                self._samples.clear()  # a rate measured across an outage would be wrong
            self._stopped.wait(_SAMPLE_S)
