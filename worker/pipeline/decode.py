"""Decodes images on a pool of threads and hands them to the batcher."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from bundle.decode import DecodedImage, UndecodableImageError
from bundle.decode import decode as decode_image
from bundle.features import brightness_contrast
from contract import errors
from contract.job import Features, JobError, JobResult, Timings
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.item import Item

#: Turns (bytes, height, width) into pixels.
Decode = Callable[[bytes, int, int], DecodedImage]


class Decoder:
    """Decodes each image once. If an image is broken or takes too long, only its own job fails.

    A decoding thread cannot be interrupted. `fail_slow_images` therefore fails the job immediately, lets the thread
    continue, and drops the pixels that it returns later.
    """

    def __init__(
        self,
        batcher: Batcher[Item],
        committer: Committer,
        input_size: tuple[int, int],
        *,
        threads: int,
        limit_s: float,
        decode: Decode = decode_image,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batcher = batcher
        self._committer = committer
        #: (height, width) of the model's input, in pixels.
        self._input_size = input_size
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
        self._batcher.expect(len(items))
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
            self._fail(item, UndecodableImageError(f"decoding took longer than {self._limit_s:g} s"))

    def is_stuck(self) -> bool:
        """Whether every thread is busy with an image whose job has already failed."""
        with self._lock:
            return len(self._abandoned) >= self._threads

    def _run(self, item: Item, data: bytes | None) -> None:
        with self._lock:
            self._began_s[id(item)] = (item, self._clock())
        started_s, failure = time.perf_counter(), None
        try:
            self._fill(item, data)
        # A hostile image can raise anything; only its own job may fail.
        except Exception as error:  # noqa: BLE001
            failure = error
        with self._lock:
            self._abandoned.discard(id(item))
            if self._began_s.pop(id(item), None) is None:
                return  # the job has already failed
        if failure is not None:
            self._fail(item, failure)
            return
        item.decode_ms = (time.perf_counter() - started_s) * 1000
        item.ready_at_s = time.monotonic()
        self._batcher.put(item, item.rank)

    def _fill(self, item: Item, data: bytes | None) -> None:
        if data is None:
            raise UndecodableImageError("it is no longer in the image store")
        image = self._decode(data, *self._input_size)
        brightness, contrast = brightness_contrast(image.pixels)
        item.pixels, item.warnings = image.pixels, image.warnings
        item.features = Features(image.width, image.height, round(brightness, 4), round(contrast, 4))

    def _fail(self, item: Item, error: Exception) -> None:
        self._batcher.withdraw()
        detail = f"The image cannot be decoded: {error}. Check the file and resend it."
        job_error = JobError(errors.UndecodableImageError.code, detail)
        self._committer.put(item, JobResult(error=job_error, timings=Timings(queue_ms=item.queue_ms)))
