"""How fast the queues drain and how much the ledger holds: what estimates and refusals are made from."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

from contract.broker import QUEUES
from contract.errors import UnavailableError
from contract.ledger.ledger import Ledger
from contract.ledger.types import RedisMemory

_SAMPLE_S = 1.0
#: The rate is measured over so many samples.
_SAMPLES = 15
#: Advice to callers is kept within these bounds, in seconds.
_LEAST_ADVICE_S, _MOST_ADVICE_S = 1, 60
#: Of the memory that Redis is allowed, so much may be taken before uploads are refused.
_SERVER_SHARE = 0.8
_FULL = "The job ledger is full; nothing was stored. Send it again later."
_EVICTS = (
    "The job ledger (Redis) is set to drop keys when it is full, so no job can be promised; nothing was stored. "
    "Its operator must set `maxmemory-policy noeviction`."
)


class LoadMeter:
    """Ended jobs per second, and the ledger's memory."""

    def __init__(self, ledger: Ledger, ledger_max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._ledger_max_bytes = ledger_max_bytes
        self._clock = clock
        #: (time in seconds, jobs ended so far).
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._memory = RedisMemory()

    def start(self) -> None:
        """Start the thread; call it after the process has forked."""
        threading.Thread(target=self._run, name="load", daemon=True).start()

    def sample(self) -> None:
        """Look once.

        Raises:
            UnavailableError: the ledger does not answer.
        """
        totals = self._ledger.stats(QUEUES).totals
        self._samples.append((self._clock(), sum(totals.values())))
        self._memory = self._ledger.memory()

    def drain_rate(self) -> float:
        """Jobs that end per second, over the last seconds; 0 when nothing is known."""
        if len(self._samples) < 2:
            return 0.0
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return max(0.0, (last - first) / (last_s - first_s)) if last_s > first_s else 0.0

    def wait_s(self, jobs_ahead: int) -> float | None:
        """Estimated wait behind that many jobs, in seconds; None when nothing is known."""
        rate = self.drain_rate()
        return round((jobs_ahead + 1) / rate, 1) if rate > 0 else None

    def advice_s(self, jobs_ahead: int) -> int:
        """Whole seconds after which asking again makes sense: the value of `Retry-After`."""
        wait_s = self.wait_s(jobs_ahead)
        return max(_LEAST_ADVICE_S, min(_MOST_ADVICE_S, math.ceil(wait_s or 0)))

    def refuse_when_full(self) -> None:
        """Return if the ledger has room, and keeps what it is given.

        Raises:
            UnavailableError: it holds as much as it may, or is set to forget.
        """
        if self._memory.evicts:
            raise UnavailableError(_EVICTS, retry_after_s=_MOST_ADVICE_S)
        if self._memory.used_bytes > self._most_bytes():
            raise UnavailableError(_FULL, retry_after_s=_MOST_ADVICE_S)

    def _most_bytes(self) -> int:
        """Below what Redis itself allows, so that the jobs in hand can still end."""
        server_bytes = int(self._memory.max_bytes * _SERVER_SHARE)
        return min(self._ledger_max_bytes, server_bytes) if server_bytes else self._ledger_max_bytes

    def _run(self) -> None:
        while True:
            try:
                self.sample()
            except UnavailableError:
                self._samples.clear()  # a rate over an outage would mislead
            time.sleep(_SAMPLE_S)
