"""What the pipeline asks of a model, and the fake that stands in for one in unit tests."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Model(Protocol):
    """A loaded and warmed-up classifier."""

    @property
    def name(self) -> str:
        """Of the bundle."""

    @property
    def version(self) -> str:
        """Of the bundle."""

    @property
    def labels(self) -> Sequence[str]:
        """In the order of the probabilities."""

    @property
    def height(self) -> int:
        """Of the input, in pixels."""

    @property
    def width(self) -> int:
        """Of the input, in pixels."""

    @property
    def backend(self) -> str:
        """`tensorflow`, `jax` or `torch`."""

    @property
    def precision(self) -> str:
        """`float32` or `bfloat16`."""

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities (batch, labels), float32, of uint8 RGB pixels (batch, height, width, 3)."""


class BrightnessModel:
    """The fake: the brighter an image, the surer it is `bright`; answers at once and needs no framework."""

    name, version, labels = "brightness", "1", ("dark", "bright")
    height = width = 16
    backend, precision = "numpy", "float32"

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        bright = pixels.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        return np.stack([1 - bright, bright], axis=1)
