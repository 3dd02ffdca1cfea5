"""Decodes images and hands them to the batcher: cheap ones on a pool of threads, costly ones in helper processes."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bundle.decode import DecodedImage, UndecodableImageError
from bundle.decode import decode as decode_image
from bundle.features import brightness_contrast
from contract import errors
from contract.images.store import ImageStore
from contract.job import Features, JobError, JobResult, Timings
from contract.ledger.ledger import Ledger
from contract.queues import QUEUES
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.gate import ClosedError, Gate
from worker.pipeline.guard import Guard, StoppedError
from worker.pipeline.item import Item

#: Turns bytes and the members of a `Target` into pixels.
Decode = Callable[..., DecodedImage]


class Decoder:
    """Decodes each cheap image once. If an image is broken or takes too long, only its own job fails.

    A decoding thread cannot be interrupted. `fail_slow_images` therefore fails the job immediately, lets the thread
    continue, and drops the pixels that it returns later.
    """

    def __init__(
        self,
        batcher: Batcher[Item],
        committer: Committer,
        *,
        threads: int,
        limit_s: float,
        decode: Decode = decode_image,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batcher = batcher
        self._committer = committer
        self._threads = threads
        self._limit_s = limit_s
        self._decode = decode
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._lock = threading.Lock()
        #: Items being decoded, by identity, with the time at which decoding began, in seconds.
        self._began_s: dict[int, tuple[Item, float]] = {}
        #: Items whose job has failed while a thread is still decoding their image.
        self._abandoned: set[int] = set()

    def submit(self, items: Sequence[Item], images: Sequence[bytes | None]) -> None:
        """Start decoding `images`; each item then goes to the batcher, or to the committer with an error."""
        for key, count in Counter(item.model for item in items).items():
            self._batcher.expect(count, key)
        for item, data in zip(items, images, strict=True):
            self._pool.submit(self._run, item, data)

    def stop(self) -> None:
        """Finish the images that were submitted, then stop the threads."""
        self._pool.shutdown()

    def fail_slow_images(self) -> None:
        """Fail the jobs whose image has been decoding for longer than the limit."""
        with self._lock:
            now_s = self._clock()
            slow = [item for item, began_s in self._began_s.values() if now_s - began_s > self._limit_s]
            for item in slow:
                del self._began_s[id(item)]
                self._abandoned.add(id(item))
        for item in slow:
            self._batcher.withdraw(item.model)
            _fail(self._committer, item, UndecodableImageError(f"decoding took longer than {self._limit_s:g} s"))

    def is_stuck(self) -> bool:
        """Whether every thread is busy with an image whose job has already failed."""
        with self._lock:
            return len(self._abandoned) >= self._threads

    def _run(self, item: Item, data: bytes | None) -> None:
        with self._lock:
            self._began_s[id(item)] = (item, self._clock())
        started_s, failure = time.perf_counter(), None
        try:
            _fill(item, data, self._decode)
        # A hostile image can raise anything; only its own job may fail.
        except Exception as error:  # noqa: BLE001
            failure = error
        with self._lock:
            self._abandoned.discard(id(item))
            if self._began_s.pop(id(item), None) is None:
                return  # the job has already failed
        if failure is not None:
            self._batcher.withdraw(item.model)
            _fail(self._committer, item, failure)
            return
        item.decode_ms = (time.perf_counter() - started_s) * 1000
        item.ready_at_s = time.monotonic()
        self._batcher.put(item, item.rank, item.model)


class CostlyDecoder:
    """Decodes images that may take much time or memory, those of lower ranks first.

    Nobody waits for these jobs. If the worker stops before it has decoded them, it returns them to their queue; if it
    dies, their leases expire.
    """

    def __init__(
        self,
        gate: Gate,
        ledger: Ledger,
        images: ImageStore,
        batcher: Batcher[Item],
        committer: Committer,
        *,
        guard: Guard,
        threads: int,
    ) -> None:
        self._gate = gate
        self._ledger = ledger
        self._images = images
        self._batcher = batcher
        self._committer = committer
        self._guard = guard
        self._changed = threading.Condition()
        #: By rank.
        self._waiting: tuple[deque[Item], ...] = tuple(deque() for _ in QUEUES)
        #: By name of the queue.
        self._unfinished: Counter[str] = Counter()
        self._stopping = False
        self._threads = [threading.Thread(target=self._run, name="costly", daemon=True) for _ in range(threads)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, item: Item) -> None:
        """Decode an item's image later."""
        with self._changed:
            self._unfinished[item.claim.job.queue_name] += 1
            self._waiting[item.rank].append(item)
            self._changed.notify()

    def unfinished(self, queue_name: str) -> int:
        """The number of images from this queue that wait or are being decoded."""
        with self._changed:
            return self._unfinished[queue_name]

    def is_idle(self) -> bool:
        """Whether no image waits or is being decoded."""
        with self._changed:
            return not self._unfinished.total()

    def stop(self) -> None:
        """Stop the threads without decoding the images that wait."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._guard.stop()

    def _run(self) -> None:
        while item := self._next():
            try:
                self._decode(item)
            except (ClosedError, StoppedError):
                return  # the lease is still held, so the job returns to its queue
            # A hostile image can raise anything; only its own job may fail.
            except Exception as error:  # noqa: BLE001
                _fail(self._committer, item, error)
            with self._changed:
                self._unfinished[item.claim.job.queue_name] -= 1

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or any(self._waiting))
            if self._stopping:
                return None
            return next(items for items in self._waiting if items).popleft()

    def _decode(self, item: Item) -> None:
        (data,) = self._gate.retry(self._images.get, [item.claim.job.image])
        self._gate.retry(self._ledger.begin, [item.claim])
        started_s = time.perf_counter()
        _fill(item, data, self._guard.decode)
        item.decode_ms = (time.perf_counter() - started_s) * 1000
        item.ready_at_s = time.monotonic()
        self._batcher.expect(1, item.model)
        self._batcher.put(item, item.rank, item.model)


def _fill(item: Item, data: bytes | None, decode: Decode) -> None:
    if data is None:
        raise UndecodableImageError("it is no longer in the image store")
    image = decode(data, *item.target)
    brightness, contrast = brightness_contrast(image.pixels)
    item.pixels, item.warnings = image.pixels, image.warnings
    item.features = Features(image.width, image.height, round(brightness, 4), round(contrast, 4))


def _fail(committer: Committer, item: Item, error: Exception) -> None:
    detail = f"The image cannot be decoded: {error}. Check the file and resend it."
    job_error = JobError(errors.UndecodableImageError.code, detail)
    committer.put(item, JobResult(error=job_error, timings=Timings(queue_ms=item.queue_ms)))
