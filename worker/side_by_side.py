"""A batch as many small calls beside each other, one a core, instead of one call over all cores."""

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

#: Images of a part: what a layer hands to the next then stays in the cache (measured, docs/performance.md).
PART = 8
#: Between the wide and the narrow call: bfloat16 rounds in the third digit.
_TOLERANCE = 0.02


class SideBySide:
    """Calls `narrow`, which takes one core, on parts of a batch at once; a batch smaller than `cores` goes to `wide`.

    Within one call over all cores each layer waits for its slowest core, and whatever else runs on one of them stops
    all. Parts wait for each other once a batch.
    """

    def __init__(self, wide: Call, cores: int) -> None:
        self._wide, self._cores = wide, cores
        #: Until there is one, all goes to `wide`.
        self.narrow: Call | None = None
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="model")

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
        """Raw outputs of `pixels`, in their order; raises what a part raises."""
        if self.narrow is None or len(pixels) < max(2, self._cores):
            return self._wide(pixels)
        # As many for each core, so that none waits for another's last part.
        parts = math.ceil(len(pixels) / (PART * self._cores)) * self._cores
        return np.concatenate(list(self._pool.map(self.narrow, np.array_split(pixels, parts))))

    def build(self, make: Callable[[], Call], height: int, width: int) -> threading.Thread:
        """Have `make` make the narrow call while the wide one serves; it is taken if it answers as that one does."""
        thread = threading.Thread(target=self._build, args=(make, height, width), name="narrow-call")
        thread.start()
        return thread

    def _build(self, make: Callable[[], Call], height: int, width: int) -> None:
        try:
            narrow = make()
            self._compare(narrow, height, width)
            self._warm_up(narrow, height, width)
        # Frameworks raise nearly anything on a network that they cannot split.
        except Exception as error:  # noqa: BLE001
            _log.warning("Batches of this model run in one piece, which is slower", reason=str(error)[:200])
        else:
            self.narrow = narrow

    def _compare(self, narrow: Call, height: int, width: int) -> None:
        pixels = np.random.default_rng(0).integers(256, size=(PART, height, width, 3), dtype=np.uint8)
        parts = np.concatenate([narrow(pixels[:-1]), narrow(pixels[-1:])])
        if not np.allclose(parts, self._wide(pixels), rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError("its parts are answered otherwise than the whole")

    def _warm_up(self, narrow: Call, height: int, width: int) -> None:
        """Run every size of a part, as many at once as there are cores: what is compiled for a size is compiled now."""
        for size in range(1, PART + 1):
            list(self._pool.map(narrow, [np.zeros((size, height, width, 3), np.uint8)] * self._cores))
