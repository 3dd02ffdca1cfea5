"""Processes the jobs of one message, from claim to commit.

Celery's threads claim jobs and read their images. Several threads decode, one predicts, and one commits. The next
batch is decoded while the current one is predicted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from contract.errors import UnavailableError
from contract.images.store import ImageStore
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from contract.queues import QUEUES
from worker.pipeline.commit import Committer
from worker.pipeline.decode import Decoder
from worker.pipeline.gate import ClosedError, Gate, SoloLock
from worker.pipeline.item import Item, JobGroup
from worker.pipeline.predict import Predictor
from worker.upkeep.leases import LeaseKeeper

R = TypeVar("R")

#: Pause before a call is retried while the ledger or the image store is unavailable.
_RETRY_S = 0.5


@dataclass(frozen=True)
class Pipeline:
    """The steps of one worker process."""

    ledger: Ledger
    images: ImageStore
    leases: LeaseKeeper
    gate: Gate
    solo_lock: SoloLock
    decoder: Decoder
    predictor: Predictor
    committer: Committer
    lease_s: float
    result_ttl_s: int

    def start(self) -> None:
        """Start the threads."""
        self.committer.start()
        self.predictor.start()

    def process(self, queue: str, job_ids: Sequence[str]) -> None:
        """Finish all jobs of one message; skips those that have finished or that another worker holds.

        Raises:
            ClosedError: the worker is stopping. The message must go back to the queue.
        """
        rank = QUEUES.index(queue)
        self.gate.enter(len(job_ids), rank)
        try:
            self._run(self._claim(job_ids), rank)
        finally:
            self.gate.leave(len(job_ids), rank)

    def drain(self) -> None:
        """Accept no more messages."""
        self.gate.close()

    def stop(self) -> None:
        """Stop the threads; call it when no message is being processed."""
        self.decoder.stop()
        self.predictor.stop()
        self.committer.stop()

    def _claim(self, job_ids: Sequence[str]) -> list[Claim]:
        claims = self._retry(self.ledger.claim, job_ids, int(self.lease_s * 1000), self.result_ttl_s)
        return [claim for claim in claims if claim]

    def _run(self, claims: Sequence[Claim], rank: int) -> None:
        self.leases.hold(claims)
        try:
            shared = [claim for claim in claims if not claim.alone]
            if shared:
                with self.solo_lock.shared():
                    self._begin(shared, rank).wait()
            for claim in claims:
                if claim.alone:
                    with self.solo_lock.alone():
                        self._begin([claim], rank).wait()
        except ClosedError:
            raise  # keep the leases: `Worker` releases all held jobs when it stops
        except Exception:
            self.leases.drop(claims)  # otherwise their leases would be renewed, and the jobs never retried
            raise

    def _begin(self, claims: Sequence[Claim], rank: int) -> JobGroup:
        self._retry(self.ledger.begin, claims)
        group = JobGroup(len(claims))
        items = [Item(claim, group, rank, queue_ms=_queue_ms(claim)) for claim in claims]
        images = self._retry(self.images.get, [claim.job.image for claim in claims])
        self.decoder.submit(items, images)
        return group

    def _retry(self, method: Callable[..., R], *arguments: Any) -> R:
        """Call a method of the ledger or the image store, and retry while it is unavailable.

        Raises:
            ClosedError: the worker is stopping.
        """
        while True:
            try:
                return method(*arguments)
            except UnavailableError:
                if self.gate.wait_closed(_RETRY_S):
                    raise ClosedError from None


def _queue_ms(claim: Claim) -> float:
    return max(0, (claim.job.started_ms or claim.job.created_ms) - claim.job.created_ms)
