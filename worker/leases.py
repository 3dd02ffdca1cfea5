"""Keeps a worker's leases and its heartbeat alive, in one thread."""

import threading
import time
from collections.abc import Callable, Iterable

from contract.errors import UnavailableError
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim, Heartbeat
from contract.log import get_logger

_log = get_logger(__name__)

#: Longest pause between heartbeats; three missed ones make a worker count as gone.
_BEAT_S = 2.0


class LeaseKeeper:
    """Renews every lease in hand at a third of its length, and says that the worker lives."""

    def __init__(self, ledger: Ledger, lease_s: float, heartbeat: Callable[[], Heartbeat]) -> None:
        self._ledger = ledger
        self._lease_ms = int(lease_s * 1000)
        self._period_s = min(_BEAT_S, lease_s / 3)
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._held: dict[str, Claim] = {}
        self._answered_at_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Start the thread; the first heartbeat is sent before this returns, if the ledger answers."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and take the worker off the list."""
        self._stopping.set()
        self._thread.join()
        try:
            self._ledger.retire(self._heartbeat().id)
        except UnavailableError:
            _log.info("The ledger does not answer; the heartbeat will run out by itself")

    def is_heard(self) -> bool:
        """Whether the latest heartbeats reached the ledger: it lists this worker as living."""
        return time.monotonic() - self._answered_at_s < 3 * self._period_s

    def hold(self, claims: Iterable[Claim]) -> None:
        """Renew these from now on."""
        with self._lock:
            self._held.update((claim.job.id, claim) for claim in claims)

    def held(self) -> list[Claim]:
        """The claims that are renewed."""
        with self._lock:
            return list(self._held.values())

    def drop(self, claims: Iterable[Claim]) -> None:
        """Renew these no longer; a later claim of the same job is held on."""
        with self._lock:
            for claim in claims:
                held = self._held.get(claim.job.id)
                if held and held.fence == claim.fence:
                    del self._held[claim.job.id]

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            try:
                self._beat()
                self._renew()
            # The thread must live on: without it every job in hand is soon somebody else's.
            except Exception:  # noqa: BLE001
                _log.exception("Leases could not be renewed")

    def _beat(self) -> None:
        try:
            self._ledger.beat(self._heartbeat(), ttl_ms=int(3 * self._period_s * 1000))
            self._answered_at_s = time.monotonic()
        except UnavailableError:
            _log.warning("The heartbeat was not written: the ledger does not answer")

    def _renew(self) -> None:
        claims = self.held()
        if not claims:
            return
        try:
            held = self._ledger.renew(claims, self._lease_ms)
        except UnavailableError:
            return  # the next round tries again; the fence decides if it is too late
        self.drop(claim for claim, is_held in zip(claims, held, strict=True) if not is_held)
