"""What all peers serve: the decoding and the compiled call of the bare loop, so that only the servers differ."""

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import bare

MAX_BATCH = 32
MAX_WAIT_MS = 10
#: Requests that a server must be able to hold.
MAX_REQUESTS = 256


def decode(data: bytes) -> NDArray[np.uint8]:
    """The pixels of an image at the size of the model's input."""
    return bare.decode(data, _input_size())


class Classifier:
    """The warmed-up model."""

    def __init__(self) -> None:
        self._predict, _, _ = bare.load(_folder(), "float32")

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[dict[str, list[float]]]:
        """The response for each image of a batch."""
        return [{"outputs": row.tolist()} for row in self._predict(np.stack(images))]


@cache
def _input_size() -> tuple[int, int]:
    size = json.loads((_folder() / "manifest.json").read_text())["input"]
    return size["width"], size["height"]


def _folder() -> Path:
    return Path(os.environ["MODEL"])
