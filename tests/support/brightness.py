"""Models without a framework: the brighter the image, the higher the probability of the second label."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.locate import INCLUDED
from bundle.manifest import Outputs, read_manifest
from bundle.target import Target
from contract.ledger.types import ChosenStrategy


class BrightnessModel:
    """Stands in for `worker.runtime.keras.KerasModel`."""

    name, version = "brightness", "1"
    labels: Sequence[str] = ("dark", "bright")
    target = Target(16, 16)
    threshold: float | None = None
    backend, precision = "numpy", "float32"
    strategies: Sequence[ChosenStrategy] = ()

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        bright = pixels.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        return Outputs(np.stack([1 - bright, bright], axis=1))


class StoredBrightnessModel(BrightnessModel):
    """A version in a model store. Versions give different answers; see `second_probability`."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        self.name, self.version, self.labels = manifest.name, manifest.version, manifest.labels

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        brightness = pixels.mean(axis=(1, 2, 3), dtype=np.float32) / 255
        second = np.array([second_probability(self.version, float(value)) for value in brightness], np.float32)
        return Outputs(np.stack([1 - second, second], axis=1))


def second_probability(version: str, brightness: float) -> float:
    """The answer of a version for a brightness of 0..1: both labels are equally probable at a tenth of its number."""
    return 1 / (1 + math.exp(-12 * (brightness - int(version) / 10)))


def load_light(folder: Path) -> BrightnessModel:
    """What a light worker loads instead of a bundle."""
    return BrightnessModel() if folder == INCLUDED else StoredBrightnessModel(folder)
