"""Precision `auto` measures: bfloat16 is used only if it is faster for every batch size."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.runtime.keras import is_faster


class Clock:
    """A clock that moves only when a model is called."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class TimedModel:
    """Takes these times for one image and for more, and far longer for the first call of each size."""

    height, width = 4, 4

    def __init__(self, clock: Clock, one_s: float, more_s: float) -> None:
        self._clock, self._times_s = clock, (one_s, more_s)
        self._compiled: set[int] = set()

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        size = len(pixels)
        self._clock.now_s += self._times_s[size > 1] + (0 if size in self._compiled else 9)
        self._compiled.add(size)
        return np.zeros((size, 2), np.float32)


@pytest.mark.parametrize(
    ("bfloat16", "float32", "expected"),
    [((1, 5), (2, 9), True), ((2, 9), (1, 5), False), ((1, 9), (2, 5), False), ((3, 5), (2, 9), False)],
    ids=["faster", "slower", "slower for batches", "slower for one image"],
)
def test_bfloat16_is_used_only_if_it_is_faster_for_one_image_and_for_batches(
    bfloat16: tuple[float, float], float32: tuple[float, float], expected: bool
) -> None:
    clock = Clock()
    models: list[Any] = [TimedModel(clock, *times) for times in (bfloat16, float32)]
    assert is_faster(*models, clock=clock) is expected
