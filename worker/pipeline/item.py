"""The data that passes through the pipeline: one item per claimed job, and the group of jobs to which it belongs."""

import threading
from dataclasses import dataclass, field
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from bundle.target import Target
from contract.job import Features, ModelRef
from contract.ledger.types import Claim


class JobGroup:
    """Jobs that entered the pipeline together; the thread that submitted them waits until all have finished."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()
        self._done = threading.Event()
        if count == 0:
            self._done.set()

    def finish_one(self) -> None:
        """Count one job as finished."""
        with self._lock:
            self._left -= 1
            if self._left <= 0:
                self._done.set()

    def wait(self) -> None:
        """Return when every job has finished."""
        self._done.wait()


@dataclass(slots=True)
class Item:
    """One claimed job on its way through the pipeline."""

    claim: Claim
    group: JobGroup
    #: Position of the job's queue in `QUEUES`; lower ranks are predicted first.
    rank: int
    #: The version that predicts it, and how images are resized for it.
    model: ModelRef
    target: Target
    #: uint8, (height, width, 3); None until decoded.
    pixels: NDArray[np.uint8] | None = None
    features: Features | None = None
    #: Codes of assumptions that the decoder made.
    warnings: tuple[str, ...] = ()
    queue_ms: float = 0.0
    decode_ms: float = 0.0
    #: Monotonic time in seconds at which the image was decoded.
    ready_at_s: float = field(default_factory=monotonic)
