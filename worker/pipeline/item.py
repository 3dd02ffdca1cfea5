"""The data that passes through the pipeline: one item per claimed job."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.target import Target
from contract.job import Features, ModelRef
from contract.ledger.types import Claim


@dataclass(slots=True)
class Item:
    """One claimed job on its way through the pipeline."""

    claim: Claim
    #: Position of the job's queue in `QUEUES`; lower ranks are predicted first.
    rank: int
    #: The version that predicts it, and how images are resized for it.
    model: ModelRef
    target: Target
    #: Whether the gate counts it.
    counted: bool = True
    #: The bytes of the image, if its model's shadow has another input, or if it may be kept for review.
    data: bytes | None = None
    #: uint8, (height, width, 3); None until decoded.
    pixels: NDArray[np.uint8] | None = None
    features: Features | None = None
    #: Codes of assumptions that the decoder made.
    warnings: tuple[str, ...] = ()
    decode_ms: float = 0.0
    #: Whether it is the first of the batch that was predicted.
    is_first: bool = False
    #: The span in which the job is processed, once it is known to have one; and that of its batch, as a `traceparent`.
    span: Any = None
    batch: str = ""
    #: Monotonic time in seconds at which the image was decoded.
    ready_at_s: float = field(default_factory=monotonic)

    @property
    def queue_ms(self) -> int:
        """How long the job waited for a worker, in milliseconds."""
        job = self.claim.job
        return max(0, (job.started_ms or job.created_ms) - job.created_ms)


def counts(items: Iterable[Item]) -> Counter[str]:
    """The number of items that the gate counts, by name of the queue."""
    return Counter(item.claim.job.queue_name for item in items if item.counted)
