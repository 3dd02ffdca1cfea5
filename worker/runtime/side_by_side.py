"""Splits a batch into small parts that run in parallel, one core each, instead of one call over all cores."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from contract.log import get_logger

_log = get_logger(__name__)

#: uint8 (batch, height, width, 3) to raw outputs (batch, units).
Call = Callable[[NDArray[np.uint8]], NDArray[np.floating]]

#: Maximum images in a part. The data between two layers then fits in the CPU cache (decisions/034 and 035).
PART = 8
#: Allowed difference between the wide and the narrow call: bfloat16 rounds in the third digit.
_TOLERANCE = 0.02
#: Name of the thread that builds the narrow call.
BUILDER_THREAD = "narrow-call"


class SideBySide:
    """Runs parts of a batch in parallel with `narrow`, which uses one core; small batches go to `wide`, which uses all.

    In one call over all cores, each layer waits for its slowest core; parts wait for each other only once per batch.
    A batch smaller than `cores` is not split: some cores would be idle.
    """

    def __init__(self, wide: Call, cores: int, make_narrow: Callable[[], Call]) -> None:
        self._wide, self._cores, self._make_narrow = wide, cores, make_narrow
        #: None until `build` has finished; then all batches go to `wide`.
        self.narrow: Call | None = None
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="model")

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Raw outputs of `pixels`, in order; an error in a part is raised."""
        if self.narrow is None or len(pixels) < max(2, self._cores):
            return self._wide(pixels)
        # Give each core the same number of parts: otherwise some cores would wait for others.
        parts = math.ceil(len(pixels) / (PART * self._cores)) * self._cores
        return np.concatenate(list(self._pool.map(self.narrow, np.array_split(pixels, parts))))

    def build(self, height: int, width: int) -> threading.Thread:
        """Make the narrow call in the background, and use it if its outputs agree with those of the wide call."""
        thread = threading.Thread(target=self._build, args=(height, width), name=BUILDER_THREAD)
        thread.start()
        return thread

    def _build(self, height: int, width: int) -> None:
        try:
            narrow = self._make_narrow()
            self._compare(narrow, height, width)
            self._warm_up(narrow, height, width)
        # Frameworks can raise anything on a network that they cannot split.
        except Exception as error:  # noqa: BLE001
            _log.warning("Batches of this model are not split, which is slower", reason=str(error)[:200])
        else:
            self.narrow = narrow

    def _compare(self, narrow: Call, height: int, width: int) -> None:
        pixels = np.random.default_rng(0).integers(256, size=(PART, height, width, 3), dtype=np.uint8)
        parts = np.concatenate([narrow(pixels[:-1]), narrow(pixels[-1:])])
        if not np.allclose(parts, self._wide(pixels), rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError("the outputs of the parts differ from those of the whole batch")

    def _warm_up(self, narrow: Call, height: int, width: int) -> None:
        """Run every part size on all cores in parallel, so that nothing is compiled while jobs wait."""
        for size in range(1, PART + 1):
            list(self._pool.map(narrow, [np.zeros((size, height, width, 3), np.uint8)] * self._cores))
