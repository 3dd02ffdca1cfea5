"""Fetches images whose address was sent instead of the image."""

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

from contract import errors
from contract.fetch import Fetcher, FetchError
from contract.images.store import ImageStore
from contract.job import JobError, JobResult, Timings
from contract.ledger.ledger import Ledger
from contract.log import get_logger
from worker.pipeline.commit import Committer
from worker.pipeline.decode import CostlyDecoder
from worker.pipeline.gate import ClosedError, Gate
from worker.pipeline.item import Item

_log = get_logger(__name__)

#: Pauses before the second and the third try.
_PAUSES_S = (1.0, 4.0)


class FetchThreads:
    """Fetches images and puts them into the image store, so that a job whose worker dies is not fetched again.

    Then the images are decoded as costly ones: nobody has checked their headers. Like those, the jobs return to their
    queue if the worker stops before.
    """

    def __init__(  # noqa: PLR0913 - one for each part that it uses
        self,
        gate: Gate,
        ledger: Ledger,
        images: ImageStore,
        costly: CostlyDecoder,
        committer: Committer,
        *,
        fetcher: Fetcher,
        threads: int,
        pauses_s: Sequence[float] = _PAUSES_S,
    ) -> None:
        self._gate = gate
        self._ledger = ledger
        self._images = images
        self._costly = costly
        self._committer = committer
        self._fetcher = fetcher
        self._pauses_s = pauses_s
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        #: By name of the queue.
        self._unfinished: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name="fetch", daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, item: Item) -> None:
        """Fetch an item's image later."""
        with self._changed:
            self._unfinished[item.claim.job.queue_name] += 1
            self._waiting.append(item)
            self._changed.notify()

    def unfinished(self, queue_name: str) -> int:
        """The number of images of this queue that wait or are being fetched."""
        with self._changed:
            return self._unfinished[queue_name]

    def stop(self) -> None:
        """Stop the threads without fetching the images that wait."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while item := self._next():
            try:
                self._fetch(item)
            except ClosedError:
                return  # the lease is still held, so the job returns to its queue
            except FetchError as error:
                self._fail(item, error)
            # The thread must keep running, and other servers can cause anything.
            except Exception as error:  # noqa: BLE001
                _log.exception("An image was not fetched", job_id=item.claim.job.id)
                self._fail(item, FetchError(f"An unexpected error occurred ({type(error).__name__})."))
            with self._changed:
                self._unfinished[item.claim.job.queue_name] -= 1

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or self._waiting)
            return None if self._stopping.is_set() else self._waiting.popleft()

    def _fetch(self, item: Item) -> None:
        claim = item.claim
        data = self._read(claim.job.image)
        (ref,) = self._gate.retry(self._images.put_many, [data])
        if not self._gate.retry(self._ledger.fetched, claim, ref, len(data)):
            self._gate.retry(self._images.delete, [ref])
            self._fail(item, FetchError("Another worker has this job."))  # the ledger drops this result
            return
        item.claim = replace(claim, job=replace(claim.job, image=ref, size_bytes=len(data)))
        self._costly.submit(item)

    def _read(self, address: str) -> bytes:
        """Fetch an image, with further tries if that may help."""
        for pause_s in (*self._pauses_s, None):
            try:
                return self._fetcher.fetch(address)
            except FetchError as error:
                if pause_s is None or not error.may_pass:
                    raise
                if self._stopping.wait(pause_s):
                    raise ClosedError from None
        raise AssertionError("The last try returns or raises.")

    def _fail(self, item: Item, error: FetchError) -> None:
        detail = f"The image could not be fetched. {error} Correct the address, or send the image itself."
        result = JobResult(
            error=JobError(errors.FetchFailedError.code, detail), timings=Timings(queue_ms=item.queue_ms)
        )
        self._committer.put(item, result)
