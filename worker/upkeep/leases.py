"""Renews a worker's leases and its heartbeat in one thread."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from contract.errors import UnavailableError
from contract.job import now_ms
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim, Heartbeat
from contract.log import get_logger

_log = get_logger(__name__)

#: Maximum pause between heartbeats. A worker is considered dead after three missed heartbeats.
_BEAT_S = 2.0


class LeaseKeeper:
    """Renews the leases of the jobs this worker holds, and writes its heartbeat.

    `heartbeat` describes the worker; each heartbeat is a copy of it with the current time and `busy_ratio()`,
    after `report` has added what changes.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease_s: float,
        heartbeat: Heartbeat,
        busy_ratio: Callable[[], float],
        report: Callable[[Heartbeat], Heartbeat] = lambda heartbeat: heartbeat,
    ) -> None:
        self._ledger = ledger
        self._lease_ms = int(lease_s * 1000)
        self._period_s = min(_BEAT_S, lease_s / 3)
        self._heartbeat = heartbeat
        self._busy_ratio = busy_ratio
        self._report = report
        self._lock = threading.Lock()
        self._held: dict[str, Claim] = {}
        self._beat_at_s = 0.0
        #: Why the last heartbeat failed.
        self._problem = "The job ledger (Redis) is not responding."
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        """Write the first heartbeat, if the ledger is available, and start the thread."""
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and remove the worker from the ledger."""
        self._stopping.set()
        self._thread.join()
        try:
            self._ledger.retire(self._heartbeat.id)
        except UnavailableError:
            _log.info("The ledger is unavailable; the heartbeat will expire")

    def connection_problem(self) -> str:
        """Why no recent heartbeat reached the ledger; empty if one did, so that this worker is listed as alive."""
        return "" if time.monotonic() - self._beat_at_s < 3 * self._period_s else self._problem

    def hold(self, claims: Iterable[Claim]) -> None:
        """Start renewing the leases of `claims`."""
        with self._lock:
            self._held.update((claim.job.id, claim) for claim in claims)

    def held(self) -> list[Claim]:
        """The claims whose leases are being renewed."""
        with self._lock:
            return list(self._held.values())

    def drop(self, claims: Iterable[Claim]) -> None:
        """Stop renewing the leases of `claims`; a later claim of the same job is kept."""
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
            # The thread must keep running: without it, every lease of this worker expires.
            except Exception:  # noqa: BLE001
                _log.exception("Leases could not be renewed")

    def _beat(self) -> None:
        heartbeat = replace(self._report(self._heartbeat), busy_ratio=round(self._busy_ratio(), 3), seen_ms=now_ms())
        try:
            self._ledger.beat(heartbeat, ttl_ms=int(3 * self._period_s * 1000))
            self._beat_at_s = time.monotonic()
        except UnavailableError as error:
            self._problem = error.detail
            _log.warning("The heartbeat was not written", reason=error.detail)

    def _renew(self) -> None:
        claims = self.held()
        if not claims:
            return
        try:
            held = self._ledger.renew(claims, self._lease_ms)
        except UnavailableError:
            return  # retried in the next round; if a lease expires meanwhile, the fence stops a late commit
        self.drop(claim for claim, is_held in zip(claims, held, strict=True) if not is_held)
