"""Claims jobs and starts them on their way through the worker.

One thread of Celery claims jobs and reads their images. Several threads decode, one predicts, and one commits. The next
batch is decoded while the current one is predicted. Images that are costly to decode take a path of their own.
"""

import threading
from collections import Counter
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from bundle.cost import CHEAP_FILE_MAX_BYTES, is_costly
from bundle.target import Target
from contract import errors
from contract.errors import UnavailableError
from contract.fetch import is_address
from contract.images.store import ImageStore
from contract.job import JobError, JobResult, ModelRef, split_model
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from contract.queues import QUEUES
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.decode import CostlyDecoder, Decoder
from worker.pipeline.fetch import FetchThreads
from worker.pipeline.gate import ClosedError, Gate
from worker.pipeline.item import Item, counts
from worker.pipeline.predict import Predictor
from worker.pipeline.shadow import ShadowPredictor
from worker.runtime.models import Models, UnusableModelError
from worker.upkeep.leases import LeaseKeeper

#: A worker with this many unfinished costly jobs of a queue, or jobs to be fetched, claims no more jobs of it.
_COSTLY_HELD = 64
#: A busy worker looks for new jobs a few times in each batch, so that most images that arrive in the meantime are
#: decoded when the next batch begins: as soon as it is idle, and otherwise after a pause within these limits.
_CLAIMS_PER_BATCH = 4
_PAUSE_MIN_S, _PAUSE_MAX_S = 0.02, 0.1
#: The minimum if the last claim left jobs waiting: long enough for an idle worker to claim them.
_BACKLOG_PAUSE_MIN_S = 0.005


@dataclass(frozen=True)
class Pipeline:
    """The steps of one worker process."""

    ledger: Ledger
    images: ImageStore
    leases: LeaseKeeper
    models: Models
    gate: Gate
    decoder: Decoder
    batcher: Batcher[Item]
    costly: CostlyDecoder
    fetch: FetchThreads
    predictor: Predictor
    committer: Committer
    shadow: ShadowPredictor
    #: Maximum number of jobs of a queue in one claim. What is left wakes other workers.
    batch_size: int
    lease_s: float
    result_ttl_s: int
    #: Claims whose attempt is not counted while their model is being loaded, by job id.
    _postponed: dict[str, Claim] = field(default_factory=dict, init=False)
    _postponing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self) -> None:
        """Start the threads."""
        self.committer.start()
        self.predictor.start()
        self.costly.start()
        self.fetch.start()
        self.shadow.start()

    def wants(self, queue: str) -> bool:
        """Whether the worker should fetch tickets of a queue."""
        return queue in self.models.queue_names()

    def serve(self) -> None:
        """Process waiting jobs until no queue has any.

        Jobs whose image is costly to decode may still be unfinished: the worker keeps their leases.

        Raises:
            ClosedError: the worker is stopping. The ticket must go back to the queue.
        """
        while True:
            self.gate.check()
            rooms = {queue: self._room(queue) for queue in self.models.queue_names()}
            claims = self._claim(rooms)
            self._run(claims)
            self.postpone_waiting()
            claimed = Counter(claim.job.queue_name for claim in claims)
            if not claims and all(rooms.values()) and self.gate.is_empty():
                return
            has_backlog = any(0 < room <= claimed[queue] for queue, room in rooms.items())
            self.gate.pause(self._pause_s(has_backlog=has_backlog))

    def models_changed(self) -> None:
        """Release the batches of versions that were loaded, and the jobs of those that cannot be."""
        self.batcher.wake()
        returned = []
        for item in self.batcher.remove(self.models.has_failed):
            if split_model(item.claim.job.model)[1]:
                error = UnusableModelError(item.model, self.models.problem(item.model))
                self.committer.put(item, _failure(error))
            else:
                returned.append(item)
        if not returned:
            return
        claims = [item.claim for item in returned]
        with suppress(UnavailableError):  # the leases expire
            self.ledger.release(claims, failed=True)
        self.leases.drop(claims)
        self.gate.leave(counts(returned))

    def postpone_waiting(self) -> None:
        """Count no attempt for jobs whose model is being loaded: if that crashes the worker, they are not to blame."""
        with self._postponing, suppress(ClosedError):
            waiting = {item.claim.job.id: item.claim for item in self.batcher.waiting(self._is_loading)}
            added = [claim for job_id, claim in waiting.items() if job_id not in self._postponed]
            ready = [claim for job_id, claim in self._postponed.items() if job_id not in waiting]
            if added:
                self.gate.retry(self.ledger.postpone, added)
            if ready:
                self.gate.retry(self.ledger.begin, ready)
            if added or ready:
                self._postponed.clear()
                self._postponed.update(waiting)

    def drain(self) -> None:
        """Claim no more jobs."""
        self.gate.close()

    def stop(self) -> None:
        """Finish the jobs in the pipeline and stop the threads. Costly images that wait are not decoded."""
        self.shadow.stop()
        self.fetch.stop()
        self.costly.stop()
        self.decoder.stop()
        self.predictor.stop()
        self.committer.stop()

    def _room(self, queue: str) -> int:
        if self.costly.unfinished(queue) + self.fetch.unfinished(queue) >= _COSTLY_HELD:
            return 0
        return min(self.gate.room(queue), self.batch_size)

    def _claim(self, rooms: dict[str, int]) -> list[Claim]:
        if not any(rooms.values()):
            return []
        claims = self.gate.retry(self.ledger.claim, rooms, int(self.lease_s * 1000), self.result_ttl_s)
        self.leases.hold(claims)
        return claims

    def _pause_s(self, *, has_backlog: bool) -> float:
        minimum_s = _BACKLOG_PAUSE_MIN_S if has_backlog else _PAUSE_MIN_S
        return min(max(self.predictor.last_s / _CLAIMS_PER_BATCH, minimum_s), _PAUSE_MAX_S)

    def _run(self, claims: Sequence[Claim]) -> None:
        try:
            if together := [claim for claim in claims if not claim.alone]:
                self._start(together)
            for claim in claims:
                if claim.alone:
                    self._run_alone(claim)
        except ClosedError:
            raise  # keep the leases: `Worker` releases all held jobs when it stops
        except Exception:
            self.gate.retry(self.ledger.postpone, claims)  # this error is no reason to suspect their images
            self.leases.drop(claims)  # otherwise their leases would be renewed, and the jobs never retried
            raise

    def _is_loading(self, ref: Hashable) -> bool:
        return not self.models.is_ready(ref)

    def _run_alone(self, claim: Claim) -> None:
        """Process a job that may have killed a worker: if it kills this one too, no other job is affected."""
        self.gate.retry(self.ledger.postpone, [claim])
        self.gate.wait_empty()
        self.gate.retry(self.ledger.begin, [claim])
        self._start([claim])
        self.gate.wait_empty()

    def _start(self, claims: Sequence[Claim]) -> None:
        """Start decoding; costly images and those to fetch do not hold up the others, unless a job must be alone.

        Large images are read when they are decoded, so that a worker holds few of them at a time.
        """
        models = self._choose(claims)
        claims = [claim for claim in claims if claim.job.id in models]
        stored = [claim for claim in claims if not is_address(claim.job.image)]
        small = [claim for claim in stored if claim.job.size_bytes <= CHEAP_FILE_MAX_BYTES]
        images = self.gate.retry(self.images.get, [claim.job.image for claim in small]) if small else []
        cheap = [
            (claim, data) for claim, data in zip(small, images, strict=True) if data is None or not is_costly(data)
        ]
        cheap_ids = {claim.job.id for claim, _ in cheap}
        costly = [claim for claim in claims if claim.job.id not in cheap_ids]
        if costly:
            self.gate.retry(self.ledger.postpone, costly)
        slow = [self._item(claim, models[claim.job.id], counted=claim.alone) for claim in costly]
        items = [self._item(claim, models[claim.job.id]) for claim, _ in cheap]
        for item, (_, data) in zip(items, cheap, strict=True):
            self.shadow.keep(item, data)
        self.gate.enter(counts([*slow, *items]))
        for item in slow:
            (self.fetch if is_address(item.claim.job.image) else self.costly).submit(item)
        self.decoder.submit(items, [data for _, data in cheap])

    def _choose(self, claims: Sequence[Claim]) -> dict[str, ModelRef]:
        """The version that processes each job, by job id; fails the jobs that no version can process."""
        chosen = {}
        for claim in claims:
            try:
                chosen[claim.job.id] = self.models.choose(claim.routed, claim.job.model, claim.instead)
            except UnusableModelError as error:
                self.committer.put(Item(claim, _rank(claim), error.ref, _NO_TARGET, counted=False), _failure(error))
        return chosen

    def _item(self, claim: Claim, ref: ModelRef, *, counted: bool = True) -> Item:
        return Item(claim, _rank(claim), ref, self.models.target(ref), counted)


#: Of jobs whose image is not decoded.
_NO_TARGET = Target(0, 0)


def _failure(error: UnusableModelError) -> JobResult:
    return JobResult(error=JobError(errors.UnusableModelError.code, f"{error} Name another version, and resend it."))


def _rank(claim: Claim) -> int:
    return QUEUES.index(claim.job.queue)
