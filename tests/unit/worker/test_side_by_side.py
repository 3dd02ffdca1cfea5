"""A batch in parts: each image's output at its place, small batches whole, what a part raises raised."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.side_by_side import PART, SideBySide


class Recorder:
    """A call that gives each image's first value, and keeps the sizes it was called with."""

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
    call = SideBySide(wide, cores)
    call.narrow = narrow
    return call


@pytest.mark.parametrize("cores", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 31, 32, 100])
def test_each_image_is_answered_at_its_place_in_parts_of_a_few(count: int, cores: int) -> None:
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


def test_what_a_part_raises_is_raised_and_the_next_batch_runs() -> None:
    call = side_by_side(Recorder(), Recorder(), 2)
    bad = images(16)
    bad[13] = 255
    with pytest.raises(RuntimeError, match="a bad part"):
        call(bad)
    assert len(call(images(16))) == 16


def test_until_the_narrow_call_is_made_all_goes_to_the_wide_one() -> None:
    wide, narrow, may_go_on = Recorder(), Recorder(), threading.Event()

    def make() -> Recorder:
        may_go_on.wait(30)
        return narrow

    call = SideBySide(wide, 2)
    building = call.build(make, 1, 1)
    assert len(call(images(8))) == 8
    assert (wide.sizes, narrow.sizes) == ([8], [])
    may_go_on.set()
    building.join(30)
    narrow.sizes.clear()
    assert len(call(images(8))) == 8
    assert narrow.sizes == [4, 4]


def refuse() -> Recorder:
    raise RuntimeError("no such graph")


def answer_otherwise() -> Callable[[NDArray[np.uint8]], NDArray[np.floating]]:
    return lambda pixels: np.full((len(pixels), 1), -1, np.float32)


@pytest.mark.parametrize("make", [refuse, answer_otherwise])
def test_a_model_that_cannot_be_split_is_served_whole(make: Callable[[], Any]) -> None:
    wide = Recorder()
    call = SideBySide(wide, 2)
    call.build(make, 1, 1).join(30)
    wide.sizes.clear()
    assert call(images(8))[:, 0].tolist() == list(range(8))
    assert wide.sizes == [8]
