"""Processes the jobs of one message, from claim to commit.

Celery's threads claim jobs and read their images. Several threads decode, one predicts, and one commits. The next
batch is decoded while the current one is predicted. Images that are costly to decode take a path of their own.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bundle.cost import CHEAP_FILE_MAX_BYTES, is_costly
from bundle.target import Target
from contract import errors
from contract.errors import UnavailableError
from contract.images.store import ImageStore
from contract.job import JobError, JobResult, ModelRef, split_model
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from contract.queues import QUEUES, split_queue_name
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.decode import CostlyDecoder, Decoder
from worker.pipeline.gate import ClosedError, Gate, SoloLock
from worker.pipeline.item import Item, JobGroup
from worker.pipeline.predict import Predictor
from worker.runtime.models import Models, UnusableModelError
from worker.upkeep.leases import LeaseKeeper

#: A worker with this many unfinished costly jobs of a queue fetches no more messages from it.
_COSTLY_HELD = 64


@dataclass(frozen=True)
class Pipeline:
    """The steps of one worker process."""

    ledger: Ledger
    images: ImageStore
    leases: LeaseKeeper
    models: Models
    gate: Gate
    solo_lock: SoloLock
    decoder: Decoder
    batcher: Batcher[Item]
    costly: CostlyDecoder
    predictor: Predictor
    committer: Committer
    lease_s: float
    result_ttl_s: int

    def start(self) -> None:
        """Start the threads."""
        self.committer.start()
        self.predictor.start()
        self.costly.start()

    def wants(self, queue: str) -> bool:
        """Whether the worker should fetch more messages from a queue."""
        return self.costly.unfinished(queue) < _COSTLY_HELD and queue in self.models.queue_names()

    def order(self, queues: Sequence[str]) -> list[str]:
        """Queues in the order in which to fetch messages: by priority, then those of which it holds the fewest."""
        return sorted(queues, key=lambda queue: (_rank(queue), self.gate.messages(queue)))

    def process(self, queue: str, job_ids: Sequence[str]) -> None:
        """Finish the jobs of one message; skips those that have finished or that another worker holds.

        Jobs whose image is costly to decode may still be unfinished: the worker keeps their leases.

        Raises:
            ClosedError: the worker is stopping. The message must go back to the queue.
        """
        self.gate.enter(len(job_ids), queue)
        try:
            self._run(self._claim(job_ids), _rank(queue))
        finally:
            self.gate.leave(len(job_ids), queue)

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
            self.ledger.release(claims)  # the reconciler publishes them again
        self.leases.drop(claims)
        for item in returned:
            item.group.finish_one()

    def drain(self) -> None:
        """Accept no more messages."""
        self.gate.close()

    def stop(self) -> None:
        """Stop the threads; call it when no message is being processed. Costly images that wait are not decoded."""
        self.costly.stop()
        self.decoder.stop()
        self.predictor.stop()
        self.committer.stop()

    def _claim(self, job_ids: Sequence[str]) -> list[Claim]:
        claims = self.gate.retry(self.ledger.claim, job_ids, int(self.lease_s * 1000), self.result_ttl_s)
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
        """Start decoding; costly images do not hold up the others, unless a job must be alone.

        A message's large images are read when they are decoded, so that a worker holds few of them at a time.
        """
        models, unusable = self._choose(claims)
        claims = [claim for claim in claims if claim.job.id in models]
        small = [claim for claim in claims if claim.job.size_bytes <= CHEAP_FILE_MAX_BYTES]
        images = self.gate.retry(self.images.get, [claim.job.image for claim in small])
        cheap = [
            (claim, data) for claim, data in zip(small, images, strict=True) if data is None or not is_costly(data)
        ]
        cheap_ids = {claim.job.id for claim, _ in cheap}
        costly = [claim for claim in claims if claim.job.id not in cheap_ids]
        group = JobGroup(len(cheap) + sum(claim.alone for claim in costly) + len(unusable))

        def item_of(claim: Claim, group: JobGroup) -> Item:
            ref = models[claim.job.id]
            return Item(claim, group, rank, ref, self.models.target(ref), queue_ms=_queue_ms(claim))

        for claim, error in unusable:
            self.committer.put(Item(claim, group, rank, error.ref, _NO_TARGET), _failure(error))
        if cheap:
            self.gate.retry(self.ledger.begin, [claim for claim, _ in cheap])
        for claim in costly:
            own_group = group if claim.alone else JobGroup(1)
            self.costly.submit(item_of(claim, own_group))
        items = [item_of(claim, group) for claim, _ in cheap]
        self.decoder.submit(items, [data for _, data in cheap])
        return group

    def _choose(self, claims: Sequence[Claim]) -> tuple[dict[str, ModelRef], list[tuple[Claim, UnusableModelError]]]:
        """The version that processes each job, by job id, and the jobs that no version can process."""
        chosen, unusable = {}, []
        for claim in claims:
            try:
                chosen[claim.job.id] = self.models.choose(claim.routed, claim.job.model)
            except UnusableModelError as error:
                unusable.append((claim, error))
        return chosen, unusable


#: Of jobs whose image is not decoded.
_NO_TARGET = Target(0, 0)


def _failure(error: UnusableModelError) -> JobResult:
    return JobResult(error=JobError(errors.UnusableModelError.code, f"{error} Name another version, and resend it."))


def _rank(queue_name: str) -> int:
    return QUEUES.index(split_queue_name(queue_name)[0])


def _queue_ms(claim: Claim) -> float:
    return max(0, (claim.job.started_ms or claim.job.created_ms) - claim.job.created_ms)
