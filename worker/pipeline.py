"""The way of a message through a worker: claim, fetch, decode, gather to batches, predict, commit.

Threads: Celery's (claim and fetch), `decode` (several), `predict` (one, the only one that calls the model, which may
have threads of its own), and the committer's. Decoding of the next batch overlaps with the predicting of this one.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from bundle.decode import UndecodableImageError, decode
from bundle.features import brightness_contrast
from contract import errors
from contract.broker import QUEUES
from contract.images.store import ImageStore
from contract.job import Features, JobError, JobResult, Timings
from contract.ledger.ledger import Ledger
from contract.ledger.types import Claim
from worker.committer import ResultCommitter
from worker.decoding import DecodeWatch
from worker.gate import ClosedError, Gate
from worker.leases import LeaseKeeper
from worker.message import Item, Message
from worker.predictor import Predictor
from worker.turnstile import Turnstile

R = TypeVar("R")

#: Pause before a ledger that does not answer is asked again.
_RETRY_S = 0.5


@dataclass
class Pipeline:
    """One per worker process; `input_size` is the model's (height, width) in pixels."""

    ledger: Ledger
    images: ImageStore
    leases: LeaseKeeper
    committer: ResultCommitter
    predictor: Predictor
    gate: Gate
    turnstile: Turnstile
    decoders: ThreadPoolExecutor
    decoding: DecodeWatch
    input_size: tuple[int, int]
    lease_s: float
    result_ttl_s: int
    decode_limit_s: float = 30.0

    def start(self) -> None:
        """Start the threads."""
        self.committer.start()
        self.predictor.start()

    def process(self, queue: str, job_ids: Sequence[str]) -> None:
        """Bring every job of one message to its end; jobs that another worker holds or that have ended are passed over.

        Raises:
            ClosedError: the worker is stopping and had not begun; the message is to go back to the queue.
        """
        rank = QUEUES.index(queue)
        self.gate.enter(len(job_ids), rank)
        try:
            self._run(self._claim(job_ids), rank)
        finally:
            self.gate.leave(len(job_ids), rank)

    def drain(self) -> None:
        """Begin no more messages."""
        self.gate.close()

    def stop(self) -> None:
        """End the threads; call it when no message is left."""
        self.decoders.shutdown()
        self.predictor.stop()
        self.committer.stop()

    def _run(self, claims: Sequence[Claim], rank: int) -> None:
        self.leases.hold(claims)
        try:
            self._try(claims, rank)
        except ClosedError:
            raise  # what is in hand is given back at the end
        except Exception:
            self.leases.drop(claims)  # else they would be held, and never tried, as long as this process lives
            raise

    def _try(self, claims: Sequence[Claim], rank: int) -> None:
        together = [claim for claim in claims if not claim.alone]
        if together:
            with self.turnstile.together():
                self._begin(together, rank).wait()
        for claim in claims:
            if claim.alone:
                with self.turnstile.alone():
                    self._begin([claim], rank).wait()

    def _begin(self, claims: Sequence[Claim], rank: int) -> Message:
        self._ask(self.ledger.begin, claims)
        message = Message(len(claims))
        items = [Item(claim, message, rank, queue_ms=_queue_ms(claim)) for claim in claims]
        photos = self._ask(self.images.get, [claim.job.image for claim in claims])
        self.predictor.batcher.expect(len(items))
        for item, data in zip(items, photos, strict=True):
            self.decoders.submit(self._decode, item, data)
        return message

    def _claim(self, job_ids: Sequence[str]) -> list[Claim]:
        claims = self._ask(self.ledger.claim, job_ids, int(self.lease_s * 1000), self.result_ttl_s)
        return [claim for claim in claims if claim]

    def _ask(self, method: Callable[..., R], *arguments: Any) -> R:
        """Call a method of ledger or image store; while it does not answer, keep asking.

        Raises:
            ClosedError: the worker is stopping meanwhile.
        """
        while True:
            try:
                return method(*arguments)
            except errors.UnavailableError:
                if self.gate.wait_closed(_RETRY_S):
                    raise ClosedError from None

    def _decode(self, item: Item, data: bytes | None) -> None:
        started_s, failure = time.perf_counter(), None
        self.decoding.begin(item)
        try:
            _fill(item, data, self.input_size)
        # Whatever a hostile image sets off is its own failure, never its batch mates'.
        except Exception as error:  # noqa: BLE001
            failure = error
        if not self.decoding.end(item):
            return  # it was given up meanwhile
        if failure is not None:
            self._give_up(item, failure)
            return
        item.decode_ms = (time.perf_counter() - started_s) * 1000
        item.ready_at_s = time.monotonic()
        self.predictor.batcher.put(item, item.rank)

    def _give_up(self, item: Item, error: Exception) -> None:
        self.predictor.batcher.miss()
        self.committer.put(item, _undecodable(item, error))

    def give_up_slow_images(self) -> bool:
        """End the jobs whose image takes too long to decode; returns whether a decoder is left for others."""
        is_stuck = self.decoding.is_stuck()
        for item in self.decoding.overdue(self.decode_limit_s):
            self._give_up(item, UndecodableImageError(f"it takes longer than {self.decode_limit_s:g} s"))
        return not is_stuck


def _fill(item: Item, data: bytes | None, size: tuple[int, int]) -> None:
    if data is None:
        raise UndecodableImageError("the image is no longer in the image store")
    photo = decode(data, *size)
    item.pixels = photo.pixels
    item.features = Features(photo.width, photo.height, *_rounded(brightness_contrast(photo.pixels)))


def _queue_ms(claim: Claim) -> float:
    return max(0, (claim.job.started_ms or claim.job.created_ms) - claim.job.created_ms)


def _rounded(values: tuple[float, float]) -> tuple[float, float]:
    return round(values[0], 4), round(values[1], 4)


def _undecodable(item: Item, error: Exception) -> JobResult:
    detail = f"The image cannot be decoded ({error}). Check the file and send it again."
    return JobResult(error=JobError(errors.UndecodableImageError.code, detail), timings=Timings(queue_ms=item.queue_ms))
