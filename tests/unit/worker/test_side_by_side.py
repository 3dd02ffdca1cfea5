"""Splitting a batch: outputs keep their order, small batches are not split, and errors are raised."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.runtime.side_by_side import PART, SideBySide


class Recorder:
    """Returns the first value of each image, and records the batch sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        self.sizes.append(len(pixels))
        if 255 in pixels:
            raise RuntimeError("a bad part")
        return pixels.reshape(len(pixels), -1)[:, :1].astype(np.float32)


def images(count: int) -> NDArray[np.uint8]:
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1).repeat(3, axis=3)


def side_by_side(wide: Recorder, narrow: Recorder, cores: int) -> SideBySide:
    call = SideBySide(wide, cores, lambda: narrow)
    call.narrow = narrow
    return call


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 32, 100])
def test_outputs_keep_the_order_of_the_images(count: int, cores: int) -> None:
    wide, narrow = Recorder(), Recorder()
    found = side_by_side(wide, narrow, cores)(images(count))
    assert found[:, 0].tolist() == list(range(count))
    assert sum(wide.sizes) + sum(narrow.sizes) == count
    if count == 1 or count < cores:
        assert wide.sizes == [count]
    else:
        assert max(narrow.sizes) <= PART
        assert len(narrow.sizes) % cores == 0
        assert max(narrow.sizes) - min(narrow.sizes) <= 1


def test_an_error_in_a_part_is_raised_and_the_next_batch_runs() -> None:
    call = side_by_side(Recorder(), Recorder(), 2)
    bad = images(16)
    bad[13] = 255
    with pytest.raises(RuntimeError, match="a bad part"):
        call(bad)
    assert len(call(images(16))) == 16


def test_batches_are_not_split_until_the_narrow_call_is_built() -> None:
    wide, narrow, may_build = Recorder(), Recorder(), threading.Event()

    def make() -> Recorder:
        may_build.wait(30)
        return narrow

    call = SideBySide(wide, 2, make)
    building = call.build(1, 1)
    assert len(call(images(8))) == 8
    assert (wide.sizes, narrow.sizes) == ([8], [])
    may_build.set()
    building.join(30)
    narrow.sizes.clear()
    assert len(call(images(8))) == 8
    assert narrow.sizes == [4, 4]


def fail() -> Recorder:
    raise RuntimeError("no such graph")


def disagree() -> Callable[[NDArray[np.uint8]], NDArray[np.floating]]:
    return lambda pixels: np.full((len(pixels), 1), -1, np.float32)


@pytest.mark.parametrize("make", [fail, disagree])
def test_batches_are_not_split_if_the_narrow_call_fails_or_disagrees(make: Callable[[], Any]) -> None:
    wide = Recorder()
    call = SideBySide(wide, 2, make)
    call.build(1, 1).join(30)
    wide.sizes.clear()
    assert call(images(8))[:, 0].tolist() == list(range(8))
    assert wide.sizes == [8]
