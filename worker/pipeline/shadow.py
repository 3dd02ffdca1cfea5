"""Predicts images once more with the shadow of their model, and records whether it agrees with the live version.

It works while no job waits in this worker, on one image at a time, so a job that arrives waits for at most one call.
Clients never get its results.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from bundle.decode import decode as decode_image
from contract.errors import UnavailableError
from contract.job import JobResult, ModelRef, Prediction, split_model
from contract.ledger.models import Shadow
from contract.ledger.shadows import Compared, ShadowStore
from contract.log import get_logger
from worker.pipeline.decode import Decode
from worker.pipeline.item import Item
from worker.pipeline.predict import check_outputs, prediction_of
from worker.runtime.models import Models
from worker.upkeep.metrics import WorkerMetrics

_log = get_logger(__name__)

#: Maximum number and size of the images that wait. Beyond it, the oldest are dropped.
_WAITING_MAX = 128
_WAITING_MAX_BYTES = 32 << 20
#: The share of the time that it may take while jobs arrive: the delay of jobs stays clearly below 5 %.
_SHARE = 0.02
#: Without a job for this time, it works without pauses.
_QUIET_S = 1.0
#: Pause between two looks whether the worker has no job, while images wait.
_LOOK_S = 0.05
_LABEL_MAX = 200


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An image that the live version has predicted."""

    job_id: str
    model: ModelRef
    shadow: Shadow
    prediction: Prediction
    pixels: NDArray[np.uint8] | None
    #: The file, if the shadow has another input, or if it is kept for review in case the shadow differs.
    data: bytes | None
    item: Item
    result: JobResult

    @property
    def size(self) -> int:
        return sum(pixels.nbytes for pixels in (self.item.pixels,) if pixels is not None) + len(self.data or b"")


class ShadowPredictor:
    """Predicts with shadows in a thread of its own; no other method waits for it."""

    def __init__(
        self,
        models: Models,
        store: ShadowStore,
        metrics: WorkerMetrics,
        is_idle: Callable[[], bool],
        *,
        keep_for_review: Callable[[Item, JobResult, bytes], object] | None = None,
        decode: Decode = decode_image,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._store = store
        self._metrics = metrics
        #: Whether the worker has no job.
        self._is_idle = is_idle
        #: Called with each file about which the shadow differs.
        self._keep_for_review = keep_for_review
        self._decode = decode
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._stopping = False
        #: When the last job was committed, and when the share of the time allows the next call, in seconds.
        self._job_at_s = self._next_at_s = float("-inf")
        self._began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Drop the images that wait, and stop the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def running_s(self) -> float:
        """How long the current call has been running; 0 if there is none."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def keep(self, item: Item, data: bytes | None) -> None:
        """Keep the bytes of an image with its item, if the shadow has another input, or if people may review it."""
        shadow = self._shadow_of(item)
        if (shadow and self._keep_for_review) or (
            shadow and self._models.target(ModelRef(item.model.name, shadow.version)) != item.target
        ):
            item.data = data

    def offer(self, item: Item, result: JobResult) -> None:
        """Queue the image of a committed job, if its model has a shadow and the job is in the sample."""
        self._job_at_s = self._clock()
        shadow = self._shadow_of(item)
        if shadow is None or result.prediction is None:
            return
        has_same_input = self._models.target(ModelRef(item.model.name, shadow.version)) == item.target
        pixels, data = (item.pixels if has_same_input else None), item.data
        if pixels is None and data is None:
            return  # it was costly to decode, or the shadow was set in the meantime
        waiting = _Waiting(item.claim.job.id, item.model, shadow, result.prediction, pixels, data, item, result)
        with self._changed:
            self._waiting.append(waiting)
            self._waiting_bytes += waiting.size
            while len(self._waiting) > _WAITING_MAX or self._waiting_bytes > _WAITING_MAX_BYTES:
                self._drop(self._pop())
            if len(self._waiting) == 1:
                self._changed.notify_all()

    def _shadow_of(self, item: Item) -> Shadow | None:
        """The shadow that predicts an item; None if its model has none, its sender chose the version, or by chance."""
        job, shadow = item.claim.job, self._models.shadow_of(item.model)
        if shadow is None or split_model(job.model)[1] or not is_in_sample(job.id, shadow.sample):
            return None
        return shadow

    def _run(self) -> None:
        while self._wait():
            with self._changed:
                waiting = self._pop()
            began_s = self._clock()
            try:
                is_done = self._compare(waiting)
            except UnavailableError:
                is_done = False
            # A network can raise anything. It must never stop the thread, or delay jobs again and again.
            except Exception as error:  # noqa: BLE001
                self._models.pause_shadow(waiting.model.name, waiting.shadow, error)
                is_done = False
            if not is_done:
                self._drop(waiting)
            ended_s = self._clock()
            self._next_at_s = ended_s + (ended_s - began_s) * (1 / _SHARE - 1)
            del waiting  # so that it is not kept in memory while the thread waits

    def _wait(self) -> bool:
        """Wait until an image may be predicted; returns False if the thread is to stop."""
        with self._changed:
            while not self._stopping:
                left_s = min(self._next_at_s, self._job_at_s + _QUIET_S) - self._clock()
                if self._waiting and left_s <= 0 and self._is_idle() and not self._models.is_predicting():
                    return True
                self._changed.wait(min(max(left_s, _LOOK_S), _QUIET_S) if self._waiting else None)
            return False

    def _pop(self) -> _Waiting:
        waiting = self._waiting.popleft()
        self._waiting_bytes -= waiting.size
        return waiting

    def _drop(self, waiting: _Waiting) -> None:
        self._metrics.shadow_dropped.labels(waiting.model.name).inc()

    def _compare(self, waiting: _Waiting) -> bool:
        """Predict an image and record the result; returns False if that is no longer possible."""
        if self._models.shadow_of(waiting.model) != waiting.shadow:
            return False
        pixels = waiting.pixels
        if pixels is None:
            ref = ModelRef(waiting.model.name, waiting.shadow.version)
            pixels = self._decode(waiting.data, *self._models.target(ref)).pixels
        with self._models.shadowing(waiting.model.name, waiting.shadow) as model:
            if model is None:
                return False
            self._began_s = time.monotonic()
            try:
                outputs = model.predict(pixels[None])
            finally:
                self._began_s = None
            check_outputs(model, outputs, 1)
            found = prediction_of(model, outputs.probabilities[0])
        label, shadow_label = _label_of(waiting.prediction), _label_of(found)
        row = Compared(
            waiting.job_id,
            waiting.model.name,
            waiting.model.version,
            waiting.shadow.version,
            label[:_LABEL_MAX],
            shadow_label[:_LABEL_MAX],
            waiting.prediction.confidence,
            found.confidence,
            label == shadow_label,
            waiting.item.claim.fence,
        )
        self._store.record([row])
        if self._keep_for_review and waiting.data and label != shadow_label:
            self._keep_for_review(waiting.item, waiting.result, waiting.data)
        return True


def _label_of(prediction: Prediction) -> str:
    """The label of an image, or all of them in the order of the alphabet."""
    return prediction.label if prediction.labels is None else ", ".join(sorted(prediction.labels))


def is_in_sample(job_id: str, share: float) -> bool:
    """Whether a job is in a sample; the answer is the same for each retry of the job."""
    digest = blake2b(job_id.encode(), digest_size=4, person=b"shadow").digest()
    return int.from_bytes(digest, "big") < share * 2**32
