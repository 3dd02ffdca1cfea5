"""A model without a framework: the brighter the image, the higher the probability of the label `bright`."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Outputs
from bundle.target import Target
from contract.ledger.types import ChosenStrategy


class BrightnessModel:
    """Stands in for `worker.runtime.keras.KerasModel`."""

    name, version, labels = "brightness", "1", ("dark", "bright")
    target = Target(16, 16)
    threshold: float | None = None
    backend, precision = "numpy", "float32"
    strategies: Sequence[ChosenStrategy] = ()

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        bright = pixels.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        return Outputs(np.stack([1 - bright, bright], axis=1))
