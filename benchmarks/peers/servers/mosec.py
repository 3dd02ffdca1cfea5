"""mosec: processes that decode single images, and one that predicts batches."""

import os
from collections.abc import Sequence

import numpy as np
from mosec import Server, Worker
from numpy.typing import NDArray

from benchmarks.peers.servers.model import MAX_BATCH, MAX_WAIT_MS, Classifier, decode


class Decode(Worker):
    """Decodes an image."""

    def deserialize(self, data: bytes) -> bytes:
        """Leave the body as it is: it is not JSON, but an image."""
        return data

    def forward(self, data: bytes) -> NDArray[np.uint8]:
        """The pixels of an image."""
        return decode(data)


class Predict(Worker):
    """Predicts a batch."""

    def __init__(self) -> None:
        super().__init__()
        self._classify = Classifier()

    def forward(self, data: Sequence[NDArray[np.uint8]]) -> list[dict[str, list[float]]]:
        """One response for each image."""
        return self._classify(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Decode, num=os.cpu_count() or 1)
    server.append_worker(Predict, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS)
    server.run()
