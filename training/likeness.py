"""Perceptual hashes: which images show the same photograph although their bytes differ."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

_SIDE = 32
_KEPT = 8
_CHUNK = 2048


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
    """64-bit DCT hash of uint8 (height, width, 3) RGB: the signs of the low frequencies about their median."""
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    low = dctn(np.asarray(grey, dtype=np.float32), norm="ortho")[:_KEPT, :_KEPT].ravel()
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def group_alike(hashes: NDArray[np.uint64], max_bits: int) -> NDArray[np.int64]:
    """Give each hash (n,) the lowest index of its group; hashes within `max_bits` of one another share a group.

    All pairs are compared: 23,000 hashes take about a second, and ten times as many a hundred times as long.
    """
    parents = np.arange(len(hashes))
    for start in range(0, len(hashes), _CHUNK):
        chunk = hashes[start : start + _CHUNK, None]
        near = np.bitwise_count(chunk ^ hashes[None, start:]) <= max_bits
        for left, right in zip(*np.nonzero(np.triu(near, 1)), strict=True):
            _join(parents, start + int(left), start + int(right))
    return np.array([_root(parents, index) for index in range(len(hashes))], dtype=np.int64)


def _root(parents: NDArray[np.int64], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = int(parents[index])
    return index


def _join(parents: NDArray[np.int64], left: int, right: int) -> None:
    left, right = _root(parents, left), _root(parents, right)
    parents[max(left, right)] = min(left, right)
